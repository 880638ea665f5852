"""The Open Inference Protocol over gRPC: an optional extra, so only this package imports grpc and protobuf."""

"""The Open Inference Protocol over gRPC: an optional extra, so nothing outside this package imports grpc or protobuf."""

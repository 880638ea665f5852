"""The story that `make demo` tells. It uses `onnxship` as a process only, as a user does."""

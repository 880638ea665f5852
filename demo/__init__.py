"""The story that `make demo` tells. It uses `onnxship` as a process only, as a user does."""

import os

# ONNX Runtime tells Microsoft of every session: the model's name, hashes, times. It reads this when imported.
# https://github.com/microsoft/onnxruntime/pull/27379
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

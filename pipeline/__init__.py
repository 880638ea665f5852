"""onnxship's pipeline: configuration in, AWS calls, a result and its report out."""

import os

# ONNX Runtime tells Microsoft of every session: the model's name, hashes, times. It reads this when imported.
# https://github.com/microsoft/onnxruntime/pull/27379
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

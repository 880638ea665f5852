"""The server that runs in the container: one ONNX model behind HTTP. It imports nothing else of the project.

The way of a start:     __main__ -> settings -> lifecycle -> serving -> loading (store, model, user_code, warm-up)
The way of a request:   access_log -> app -> serving.submit -> protocol | predict -> tensors | images -> model
"""

import os

# ONNX Runtime tells Microsoft of every session: the model's name, hashes, times. It reads this when imported.
# https://github.com/microsoft/onnxruntime/pull/27379
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class BadRequest(Exception):
    """Raised by service.py: the caller is answered 400 with this text, `raise BadRequest("age must be positive")`."""

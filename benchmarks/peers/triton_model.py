"""Triton's python backend around ONNX Runtime: runs inside Triton's stub process, in its own environment.

https://github.com/triton-inference-server/python_backend. The wheel that brings the Triton binary has no C++ ONNX
backend. Requests that Triton's dynamic batcher hands over together are run together.
"""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One session per instance, one thread each."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = config["parameters"]["model"]["string_value"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.name = config["input"][0]["name"]

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, self.name).as_numpy() for request in requests]
        outputs = self.session.run(None, {self.name: rows[0] if len(rows) == 1 else np.concatenate(rows)})[0]
        ends = np.cumsum([len(array) for array in rows])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("output", np.ascontiguousarray(part))])
            for part in np.split(outputs, ends)
        ]

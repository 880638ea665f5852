"""MLServer, https://mlserver.readthedocs.io: a custom runtime, as its documents recommend for ONNX; own environment."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OrtRuntime(MLModel):
    """Tensors as JSON numbers, or a row's bytes in base64: MLServer's REST has no binary tensors."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.spec = self.session.get_inputs()[0]
        self.kind = np.int64 if self.spec.type == "tensor(int64)" else np.float32
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        output = self.session.run(None, {self.spec.name: self.rows(payload)})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", output)])

    def rows(self, payload: InferenceRequest) -> np.ndarray:
        tensor = payload.inputs[0]
        if tensor.datatype != "BYTES":
            return NumpyCodec.decode_input(tensor)
        rows = [np.frombuffer(row, self.kind).reshape(self.spec.shape[1:]) for row in Base64Codec.decode_input(tensor)]
        return np.stack(rows)

"""LitServe, https://lightning.ai/docs/litserve: runs in its own environment.

python litserve_server.py MODEL PORT WORKERS BATCH API_SERVERS
"""

import sys

import litserve
import numpy as np
import onnxruntime


class OrtApi(litserve.LitAPI):
    """Rows as JSON, or one row's bytes as a multipart file; with a batch size above one LitServe collects requests."""

    def __init__(self, model: str, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=0.0)
        self.model = model

    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        self.spec = self.session.get_inputs()[0]
        self.kind = np.int64 if self.spec.type == "tensor(int64)" else np.float32

    def decode_request(self, request):
        if "rows" in request:
            return np.frombuffer(request["rows"].file.read(), self.kind).reshape(1, *self.spec.shape[1:])
        return np.array(request["inputs"], self.kind)

    def batch(self, inputs):
        return np.concatenate(inputs)

    def predict(self, x):
        return self.session.run(None, {self.spec.name: x})[0]

    def unbatch(self, output):
        return [output[number : number + 1] for number in range(len(output))]

    def encode_response(self, output):
        return {"outputs": output.tolist()}


def main(model: str, port: str, workers: str, batch: str, api_servers: str) -> None:
    is_batching = int(batch) > 1
    server = litserve.LitServer(
        OrtApi(model, int(batch)),
        accelerator="cpu",
        workers_per_device=int(workers),
        fast_queue=is_batching,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=int(api_servers),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The server that a newcomer to FastAPI writes: `def predict` in FastAPI's thread pool, ONNX Runtime in the process.

    python -m benchmarks.peers.naive MODEL PORT INTRA_OP_THREADS

In its favour: no access log, and the body as bytes for those who do not want JSON.
"""

from __future__ import annotations

import sys
from typing import Annotated

import numpy as np
import onnxruntime
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel


class Rows(BaseModel):
    """The body of /predict."""

    inputs: list


async def body_of(request: Request) -> bytes:
    """The whole body."""
    return await request.body()


def make_app(session: onnxruntime.InferenceSession) -> FastAPI:
    """An application of two routes around the session."""
    app = FastAPI()
    spec = session.get_inputs()[0]
    kind = np.int64 if spec.type == "tensor(int64)" else np.float32

    @app.post("/predict")
    def predict(rows: Rows) -> dict[str, list]:
        outputs = session.run(None, {spec.name: np.array(rows.inputs, kind)})
        return {"outputs": outputs[0].tolist()}

    @app.post("/predict-bytes")
    def predict_bytes(body: Annotated[bytes, Depends(body_of)]) -> Response:
        row = np.frombuffer(body, kind).reshape(1, *spec.shape[1:])
        return Response(session.run(None, {spec.name: row})[0].tobytes(), media_type="application/octet-stream")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {}

    return app


def main(model: str, port: str, intra_op_threads: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(intra_op_threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    uvicorn.run(make_app(session), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

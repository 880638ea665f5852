"""How a row is put into a request, and an answer read back into an array: one form per way of speaking to a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.models import Work

JSON_TYPE = {"Content-Type": "application/json"}
BYTES_TYPE = {"Content-Type": "application/octet-stream"}
HEADER_LENGTH = "Inference-Header-Content-Length"
BOUNDARY = "onnxship-benchmark"


@dataclass(frozen=True)
class Request:
    """A body and the headers that belong to it."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Form:
    """`write` makes a request of one row, [1, ...]; `read` takes a 200's body and headers (lower case) to an array."""

    name: str
    path: str
    write: Callable[[Work, np.ndarray], Request]
    read: Callable[[bytes, Mapping[str, str]], np.ndarray]


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _plain(array: np.ndarray) -> list:
    """The array as lists, with the fewest digits that give the same float32 back."""
    if array.dtype != np.float32:
        return array.tolist()
    return np.array([float(str(value)) for value in array.ravel()]).reshape(array.shape).tolist()


def _write_rows(work: Work, rows: np.ndarray) -> Request:
    return Request(_json({"inputs": _plain(rows)}), JSON_TYPE)


def _read_rows(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    return np.array(json.loads(body)["outputs"], np.float32)


def _write_row(work: Work, rows: np.ndarray) -> Request:
    return Request(_json({"input": _plain(rows[0])}), JSON_TYPE)


def _read_prediction(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    return np.array([json.loads(body)["prediction"]], np.float32)


def _write_v2(work: Work, rows: np.ndarray) -> Request:
    tensor = {"name": work.input_name, "shape": rows.shape, "datatype": work.datatype, "data": _plain(rows.ravel())}
    return Request(_json({"inputs": [tensor]}), JSON_TYPE)


def _read_v2(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    output = json.loads(body)["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _write_v2_binary(work: Work, rows: np.ndarray) -> Request:
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": work.input_name, "shape": rows.shape, "datatype": work.datatype, "parameters": size}
    header = _json({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return Request(header + rows.tobytes(), BYTES_TYPE | {HEADER_LENGTH: str(len(header))})


def _read_v2_binary(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    length = int(headers[HEADER_LENGTH.lower()])
    output = json.loads(body[:length])["outputs"][0]
    return np.frombuffer(body[length:], np.float32).reshape(output["shape"])


def _write_v2_base64(work: Work, rows: np.ndarray) -> Request:
    data = base64.b64encode(rows.tobytes()).decode()
    parameters = {"content_type": "base64"}
    tensor = {"name": work.input_name, "shape": [1], "datatype": "BYTES", "parameters": parameters, "data": [data]}
    return Request(_json({"inputs": [tensor]}), JSON_TYPE)


def _write_bytes(work: Work, rows: np.ndarray) -> Request:
    return Request(rows.tobytes(), BYTES_TYPE)


def _read_bytes(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    return np.frombuffer(body, np.float32)[None]


def _write_multipart(work: Work, rows: np.ndarray) -> Request:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="rows"; filename="rows"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    body = head.encode() + rows.tobytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Request(body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


ROWS = Form("JSON", "/predict", _write_rows, _read_rows)
PREDICT = Form("JSON", "/predict", _write_row, _read_prediction)
V2_JSON = Form("v2 JSON", "/v2/models/{model}/infer", _write_v2, _read_v2)
V2_BINARY = Form("v2 binary", "/v2/models/{model}/infer", _write_v2_binary, _read_v2_binary)
V2_BASE64 = Form("v2 base64", "/v2/models/{model}/infer", _write_v2_base64, _read_v2)
BYTES = Form("bytes", "/predict-bytes", _write_bytes, _read_bytes)
MULTIPART = Form("multipart", "/predict", _write_multipart, _read_rows)

"""The binary tensor data extension over real HTTP, both ways, and what is wrong with a body named."""

import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from model_service.errors import RequestRefused
from model_service.inference.body import Body
from model_service.inference.infer import InferWork
from model_service.runtime.model import load_model
from tests.model_service.conftest import Launch, Reply, Service, graph, identity, write_manifest

LENGTH = "Inference-Header-Content-Length"
WINDOW_BITS = {"gzip": 31, "deflate": 15}


def body_of(tensors: list[tuple[dict[str, Any], bytes]], **members: Any) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers: each tensor's JSON, and its bytes behind it all."""
    inputs = [described | {"parameters": {"binary_data_size": len(data)}} for described, data in tensors]
    head = json.dumps({"inputs": inputs, **members}).encode()
    return head + b"".join(data for _, data in tensors), {LENGTH: str(len(head))}


def tensor(name: str, array: np.ndarray, datatype: str = "FP32") -> tuple[dict[str, Any], bytes]:
    return {"name": name, "datatype": datatype, "shape": list(array.shape)}, array.tobytes()


def send_binary(service: Service, model: str, body: bytes, headers: dict[str, str]) -> Reply:
    return service.request("POST", f"/v2/models/{model}/infer", body, headers)


def arrays_of(reply: Reply) -> dict[str, bytes]:
    """The outputs' bytes by name, cut where the answer's JSON says."""
    assert (200, "application/octet-stream") == (reply.status, reply.headers["content-type"])
    length = int(reply.headers[LENGTH.lower()])
    at, found = length, {}
    for output in json.loads(reply.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = reply.body[at : at + size]
        at += size
    assert len(reply.body) == at
    return found


def test_takes_and_gives_bytes(digits: Service, digits_rows: np.ndarray) -> None:
    """Binary inputs and outputs hold exactly what JSON holds."""
    body, headers = body_of([tensor("X", digits_rows)], parameters={"binary_data_output": True})
    binary = arrays_of(send_binary(digits, "digits", body, headers))
    as_json = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [32, 64], "data": digits_rows.tolist()}]}
    outputs = digits.post("/v2/models/digits/infer", as_json).json["outputs"]
    assert outputs[0]["data"] == np.frombuffer(binary["label"], np.int64).tolist()
    assert np.array_equal(np.array(outputs[1]["data"], np.float32), np.frombuffer(binary["probabilities"], np.float32))


def test_each_output_chooses_its_form(digits: Service) -> None:
    """An output's own binary_data is above the request's binary_data_output; JSON alone has no length header."""
    described, data = tensor("X", np.zeros((1, 64), np.float32))
    outputs = [{"name": "probabilities"}, {"name": "label", "parameters": {"binary_data": False}}]
    body, headers = body_of([(described, data)], outputs=outputs, parameters={"binary_data_output": True})
    reply = send_binary(digits, "digits", body, headers)
    first, second = json.loads(reply.body[: int(reply.headers[LENGTH.lower()])])["outputs"]
    assert ({"binary_data_size": 40}, False) == (first["parameters"], "data" in first)
    assert 1 == len(second["data"])
    body, headers = body_of([(described, data)])
    reply = send_binary(digits, "digits", body, headers)
    assert ("application/json", False) == (reply.headers["content-type"], LENGTH.lower() in reply.headers)


@pytest.mark.parametrize(
    ("kind", "datatype", "data"),
    [
        (TensorProto.BOOL, "BOOL", b"\x01\x00"),
        (TensorProto.INT8, "INT8", b"\x80\x7f"),
        (TensorProto.UINT16, "UINT16", b"\xff\xff\x00\x00"),
        (TensorProto.INT64, "INT64", struct.pack("<2q", -(2**63), 2**63 - 1)),
        (TensorProto.UINT64, "UINT64", struct.pack("<2Q", 0, 2**64 - 1)),
        (TensorProto.FLOAT16, "FP16", np.array([0.5, np.inf], "<f2").tobytes()),
        (TensorProto.BFLOAT16, "BF16", b"\x80\x3f\xc0\x7f"),
        (TensorProto.FLOAT, "FP32", np.array([np.nan, -np.inf], "<f4").tobytes()),
        (TensorProto.DOUBLE, "FP64", np.array([1e300, 0.1], "<f8").tobytes()),
        (TensorProto.STRING, "BYTES", "".join("\x06\0\0\0grün!\0\0\0\0").encode("utf-8")),
    ],
)
def test_carries_every_datatype(launch: Launch, tmp_path: Path, kind: int, datatype: str, data: bytes) -> None:
    """Every datatype comes back bit for bit, NaN and infinity as well."""
    service = launch(write_manifest(tmp_path, identity(kind, [None]))).wait_ready()
    described = {"name": "x", "datatype": datatype, "shape": [2]}
    body, headers = body_of([(described, data)], parameters={"binary_data_output": True})
    assert {"y": data} == arrays_of(send_binary(service, "tiny", body, headers))
    assert 0 == service.stop()


def test_computes_in_bfloat16(launch: Launch, tmp_path: Path) -> None:
    """numpy has no bfloat16; the model gets one all the same, and JSON is refused in words."""
    shapes = {"x": (TensorProto.BFLOAT16, ["N"])}
    doubled = graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], shapes, {"y": (1, ["N"])})
    service = launch(write_manifest(tmp_path, doubled)).wait_ready()
    body, headers = body_of([({"name": "x", "datatype": "BF16", "shape": [2]}, b"\x80\x3f\x20\x40")])
    assert [1.0, 2.5] == json.loads(send_binary(service, "tiny", body, headers).body)["outputs"][0]["data"]
    as_json = {"inputs": [{"name": "x", "datatype": "BF16", "shape": [1], "data": [1.0]}]}
    reply = service.post("/v2/models/tiny/infer", as_json)
    assert (400, True) == (reply.status, "JSON has no form for BF16" in reply.json["error"])
    assert 200 == service.get("/openapi.json").status


def test_takes_a_raw_tensor(digits: Service, adder: Service, digits_rows: np.ndarray) -> None:
    """A length of 0 says that all of the body is the only input's one row, and all outputs come back binary."""
    reply = send_binary(digits, "digits", digits_rows[7].tobytes(), {LENGTH: "0"})
    assert [7] == np.frombuffer(arrays_of(reply)["label"], np.int64).tolist()
    reply = send_binary(digits, "digits", b"1234567", {LENGTH: "0"})
    assert (400, "the body has 7 bytes; shape [1, 64] of FP32 has 256") == (reply.status, reply.json["error"])
    reply = send_binary(adder, "adder", b"", {LENGTH: "0"})
    assert (400, "a raw binary request needs a model with one input; it has 2") == (reply.status, reply.json["error"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compression_covers_the_whole_body(digits: Service, digits_rows: np.ndarray, encoding: str) -> None:
    """The length header counts the JSON before compression, in requests and in answers."""
    body, headers = body_of([tensor("X", digits_rows)], parameters={"binary_data_output": True})
    plain = send_binary(digits, "digits", body, headers)
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    more = {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    reply = send_binary(digits, "digits", packed, headers | more)
    assert (200, encoding) == (reply.status, reply.headers["content-encoding"])
    assert plain.body == zlib.decompress(reply.body, WINDOW_BITS[encoding])
    assert plain.headers[LENGTH.lower()] == reply.headers[LENGTH.lower()]


def test_a_bomb_does_not_go_off(digits: Service) -> None:
    """What is larger than MAX_BODY_BYTES when it is decompressed is refused with 413; broken streams with 400."""
    bomb = gzip.compress(b" " * 300_000)
    for body, status, words in (
        (bomb, 413, "larger than 200000 bytes when it is decompressed"),
        (gzip.compress(b'{"inputs": []}')[:-4], 400, "the compressed body is cut off"),
        (gzip.compress(b"{}") + b"x", 400, "bytes after its end"),
    ):
        reply = digits.request("POST", "/v2/models/digits/infer", body, {"Content-Encoding": "gzip"})
        assert (status, True) == (reply.status, words in reply.json["error"])


ROW = {"name": "X", "datatype": "FP32", "shape": [1, 64]}


@pytest.mark.parametrize(
    ("tensors", "length", "words"),
    [
        ([(ROW, bytes(255))], None, "has 255 bytes; shape [1, 64] of FP32 has 256"),
        ([(ROW, bytes(260))], None, "has 260 bytes; shape [1, 64] of FP32 has 256"),
        ([(ROW | {"data": [0.0] * 64}, bytes(256))], None, "has both `data` and `binary_data_size`"),
        ([(ROW, bytes(256))], "10000", "Inference-Header-Content-Length is `10000`, not a number up to"),
        ([(ROW, bytes(256))], "-1", "Inference-Header-Content-Length is `-1`"),
        ([(ROW, bytes(256))], "1e2", "Inference-Header-Content-Length is `1e2`"),
        ([(ROW, bytes(256))], "9" * 30, "not a number up to"),
        ([(ROW, bytes(256))], "5", "the body cannot be used"),
        ([(ROW | {"shape": [2**62, 64]}, bytes(256))], None, "at most 100 are taken at once"),
        ([(ROW | {"shape": [0, 64]}, b"")], None, "is empty"),
    ],
)
def test_refuses_broken_bodies(
    digits: Service, tensors: list[tuple[dict[str, Any], bytes]], length: str | None, words: str
) -> None:
    """Whatever is wrong with a binary body is answered with 400 that names it."""
    body, headers = body_of(tensors)
    reply = send_binary(digits, "digits", body, headers | ({LENGTH: length} if length else {}))
    assert (400, True) == (reply.status, words in reply.json["error"]), reply.body


def test_counts_the_bytes_behind_the_json(digits: Service) -> None:
    """A tail that is shorter or longer than the tensors is refused."""
    body, headers = body_of([(ROW, bytes(256))])
    for changed, words in ((body[:-1], "256 bytes after the JSON, where 255 are left"), (body + b"x", "1 bytes after")):
        reply = send_binary(digits, "digits", changed, headers)
        assert (400, True) == (reply.status, words in reply.json["error"])


@pytest.fixture(scope="module")
def strings(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Service:
    manifest = write_manifest(tmp_path_factory.mktemp("strings"), identity(TensorProto.STRING, [None]), name="strings")
    return launch(manifest).wait_ready()


@pytest.mark.parametrize(
    ("shape", "data", "words"),
    [
        ([2], b"\x01\0\0\0a", "too few for 2 elements"),
        ([1], b"\xff\xff\xff\xffa", "element 0 has 4294967295 bytes, and 1 are left"),
        ([1], b"\x01\0\0\0ab", "1 bytes too many after its 1 elements"),
        ([1], b"\x01\0\0\0\xff", "element 0 is not UTF-8 text"),
        ([2**40], b"", "at most 4096 are taken at once"),
        ([4096], b"\0" * 16, "too few for 4096 elements"),
    ],
)
def test_refuses_broken_strings(strings: Service, shape: list[int], data: bytes, words: str) -> None:
    """Lengths that run past the end, bytes too many, and bytes that are no text are refused by their element."""
    body, headers = body_of([({"name": "x", "datatype": "BYTES", "shape": shape}, data)])
    reply = send_binary(strings, "strings", body, headers)
    assert (400, True) == (reply.status, words in reply.json["error"]), reply.body


@pytest.mark.parametrize(
    ("dimensions", "status"), [([None], 200), (["N", "M"], 200), ([1, 1], 200), (["N", 3], 400), ([2], 400)]
)
def test_a_raw_string_is_one_element(tmp_path: Path, dimensions: list[Any], status: int) -> None:
    """A body that is a raw string is the one element of the input, whatever its length; 400 where it has others."""
    path = tmp_path / "model.onnx"
    path.write_bytes(identity(TensorProto.STRING, dimensions))
    model = load_model(path, name="tiny", version="1", platform="onnx_onnxv1", device="cpu")
    work = InferWork(model, Body("grüße".encode(), b"", 100), b"0", 10, labels_of={})
    if status == 200:
        assert ["grüße"] == work.read().arrays["x"].reshape(-1).tolist()
    else:
        with pytest.raises(RequestRefused, match="a raw binary request is one element"):
            work.read()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_breaks_the_server(digits: Service, data: st.DataObject) -> None:
    """A valid body with anything cut out of it, put into it, or another length, gets 200 or 4xx; the next is right."""
    body, headers = body_of([(ROW, bytes(256))], parameters={"binary_data_output": True})
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(len(body), begin + 64)))
    changed = body[:begin] + data.draw(st.binary(max_size=64)) + body[end:]
    length = data.draw(st.one_of(st.just(headers[LENGTH]), st.integers(0, 400).map(str), st.text("0123456789-+e ")))
    reply = send_binary(digits, "digits", changed, {LENGTH: length.strip() or "0"})
    assert reply.status in (200, 400, 413), (reply.status, reply.body)
    assert 200 == send_binary(digits, "digits", body, headers).status

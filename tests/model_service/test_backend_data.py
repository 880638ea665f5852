"""Every model of onnx's own backend test data that ONNX Runtime itself runs is served and answers as recorded."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from tests.model_service.backend_cases import (
    BFLOAT16,
    Case,
    Left,
    cases,
    check_onnx_runtime_itself,
    onnx_runtime_session,
)
from tests.model_service.conftest import Launch, Service, identity, send, write_manifest

RecordProperty = Callable[[str, object], None]

LENGTH = "Inference-Header-Content-Length"
# The names of the protocol and of ONNX Runtime, written down a second time: the server's own table is tested by this.
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
# So many at least, with the pinned onnx and ONNX Runtime: the test must not get easier unseen.
AT_LEAST = {"node": 1200, "simple": 16, "real": 9, "pytorch-converted": 59, "pytorch-operator": 24}
PARTS = 8  # of the node cases, so that several processes share them


@dataclass(frozen=True)
class Output:
    """An output's bytes, as they came."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes

    def array(self, dtype: Any) -> Any:
        """The array; `dtype` is the recorded one, as the bytes of BF16 do not say theirs to numpy."""
        if self.datatype != "BYTES":
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        texts, left = [], self.data
        while left:
            length = int.from_bytes(left[:4], "little")
            texts.append(left[4 : 4 + length].decode())
            left = left[4 + length :]
        return np.array(texts, object).reshape(self.shape)


pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    write_manifest(directory / "first", identity(TensorProto.FLOAT, ["N"]), name="first")
    return directory


@pytest.fixture(scope="module")
def service(launch: Launch, repository: Path) -> Iterator[Service]:
    """A server that loads and unloads what it is told."""
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "first"}
    service = launch("", ACCESS_LOG="off", MAX_BODY_BYTES=str(2**27), **environment).wait_ready()
    yield service
    assert 0 == service.stop()


@pytest.mark.parametrize("part", range(PARTS))
def test_serves_the_node_cases(service: Service, repository: Path, part: int, record_property: RecordProperty) -> None:
    """One operator each, with every kind of shape and datatype."""
    served = serve_all(
        service, repository, list(cases("node"))[part::PARTS], f"node {part + 1}/{PARTS}", record_property
    )
    assert served >= AT_LEAST["node"] // PARTS


@pytest.mark.parametrize("kind", ["simple", "real", "pytorch-converted", "pytorch-operator"])
def test_serves_the_models(service: Service, repository: Path, kind: str, record_property: RecordProperty) -> None:
    """Models of several operators, real topologies among them, and what PyTorch exported."""
    assert serve_all(service, repository, list(cases(kind)), kind, record_property) >= AT_LEAST[kind]


def serve_all(service: Service, repository: Path, found: list[Case], kind: str, record_property: RecordProperty) -> int:
    """Serve the cases one after the other; how many answered as recorded. Fails with every one that did not."""
    left: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for case in found:
        try:
            session = onnx_runtime_session(case)
            check_is_in_the_protocol(session)
            check_is_not_empty(case, session)
            check_onnx_runtime_itself(case, session)
            serve(service, repository, case, session)
        except Left as why:
            left[str(why)] += 1
        except AssertionError as error:
            wrong[case.name] = str(error)
    served = len(found) - left.total() - len(wrong)
    why = "; ".join(f"{count} left out: {why}" for why, count in left.most_common())
    record_property("told", f"onnx's backend test data, {kind}: {served} of {len(found)} served as recorded; {why}")
    assert {} == wrong
    return served


def check_is_in_the_protocol(session: ort.InferenceSession) -> None:
    """Raise Left for a model with what the protocol cannot carry."""
    kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    if not all(kind.startswith("tensor(") for kind in kinds):
        raise Left("a sequence, an optional or a map goes in or out")
    if not set(kinds) <= DATATYPES.keys():
        raise Left("a datatype that the protocol has not")


def check_is_not_empty(case: Case, session: ort.InferenceSession) -> None:
    """Raise Left for an empty tensor where the signature leaves the size open: the server refuses a batch of nothing,
    because many a graph breaks on it."""
    for inputs, _ in case.data_sets:
        for value, array in zip(session.get_inputs(), inputs, strict=False):
            if any(
                size == 0 and not isinstance(wanted, int) for size, wanted in zip(array.shape, value.shape, strict=True)
            ):
                raise Left("an empty tensor where the size is open, which the server refuses on purpose")


def serve(service: Service, repository: Path, case: Case, session: ort.InferenceSession) -> None:
    """Load the case, ask for each of its data sets, as bytes and as JSON, and unload it."""
    name = case.name[-64:]
    write_manifest(repository / name, case.model, name=name)
    try:
        admin(service, f"{name}/load")
        for number, (inputs, expected) in enumerate(case.data_sets):
            told = ask(service, name, session, inputs)
            outputs = [output.array(recorded.dtype) for output, recorded in zip(told, expected, strict=True)]
            case.check(expected, outputs)
            check_json(service, name, case, session, number)
        admin(service, f"{name}/unload")
    finally:
        shutil.rmtree(repository / name)


def admin(service: Service, path: str) -> None:
    reply = send(service.ports["admin_port"], "POST", f"/v2/repository/models/{path}", b"{}")
    assert 200 == reply.status, reply.body.decode()


def ask(service: Service, name: str, session: ort.InferenceSession, inputs: list[Any]) -> list[Output]:
    """The outputs, by a request of binary tensors for binary tensors."""
    tensors = [binary(value, array) for value, array in zip(session.get_inputs(), inputs, strict=False)]
    given = [tensor | {"parameters": {"binary_data_size": len(data)}} for tensor, data in tensors]
    head = json.dumps({"inputs": given, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(data for _, data in tensors)
    reply = service.request("POST", f"/v2/models/{name}/infer", body, {LENGTH: str(len(head))})
    assert 200 == reply.status, reply.body.decode()
    at = int(reply.headers.get(LENGTH.lower(), len(reply.body)))
    outputs = []
    for told in json.loads(reply.body[:at])["outputs"]:
        size = told["parameters"]["binary_data_size"]
        outputs.append(Output(told["name"], told["datatype"], told["shape"], reply.body[at : at + size]))
        at += size
    signature = [(value.name, DATATYPES[value.type]) for value in session.get_outputs()]
    assert signature == [(output.name, output.datatype) for output in outputs]
    return outputs


def check_json(service: Service, name: str, case: Case, session: ort.InferenceSession, number: int) -> None:
    """Ask for data set `number` in JSON, where JSON has a form for all of it. NaN and infinity have none: they come as
    null, and are not sent."""
    inputs, expected = case.data_sets[number]
    kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    if BFLOAT16 in kinds or not all(is_finite(array) for array in inputs):
        return
    given = [as_json(value, array) for value, array in zip(session.get_inputs(), inputs, strict=False)]
    reply = service.post(f"/v2/models/{name}/infer", {"inputs": given})
    assert 200 == reply.status, reply.body.decode()
    outputs = [
        np.array(told["data"], recorded.dtype).reshape(told["shape"])
        for told, recorded in zip(reply.json["outputs"], expected, strict=True)
    ]
    case.check([finite_or_nan(array) for array in expected], outputs)


def finite_or_nan(array: Any) -> Any:
    return array if is_finite(array) else np.where(np.isfinite(array), array, array.dtype.type(np.nan))


def is_finite(array: Any) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def as_json(value: Any, array: Any) -> dict[str, Any]:
    data = [text.decode() if isinstance(text, bytes) else text for text in np.asarray(array).reshape(-1).tolist()]
    return {"name": value.name, "datatype": DATATYPES[value.type], "shape": list(np.shape(array)), "data": data}


def binary(value: Any, array: Any) -> tuple[dict[str, Any], bytes]:
    described = {"name": value.name, "datatype": DATATYPES[value.type], "shape": list(np.shape(array))}
    if described["datatype"] != "BYTES":
        return described, np.asarray(array).tobytes()
    texts = [text.encode() if isinstance(text, str) else text for text in np.asarray(array).reshape(-1).tolist()]
    return described, b"".join(len(text).to_bytes(4, "little") + text for text in texts)

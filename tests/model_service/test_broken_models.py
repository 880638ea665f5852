"""Broken models, loaded beside a good one by a server that runs: each is refused by name, and the good one serves."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnxruntime.datasets
import pytest
from onnx import TensorProto, helper

from model_service.errors import StartRefused
from model_service.runtime.model import load_model
from tests.model_service.conftest import Launch, Reply, Service, addition, graph, identity, send, sha256, write_manifest

FLOAT = TensorProto.FLOAT
FLIPS = 64


def outside(location: str) -> bytes:
    """x + w, where w lies in a file at `location`."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    values = [helper.make_tensor_value_info(name, FLOAT, [1]) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "outside", values[:1], values[1:], [tensor])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return model.SerializeToString()


def of_a_custom_operator() -> bytes:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")]
    model = onnx.ModelProto.FromString(graph(nodes, {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])}))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model.SerializeToString()


def of_an_unknown_operator() -> bytes:
    return graph([helper.make_node("Frobnicate", ["x"], ["y"])], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])})


def with_a_sequence_output() -> bytes:
    model = onnx.ModelProto.FromString(addition())
    model.graph.node.append(helper.make_node("SequenceConstruct", ["sum"], ["parts"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("parts", FLOAT, ["N", 2]))
    return model.SerializeToString()


def relu(*, ir_version: int = 10, opset: int = 22) -> bytes:
    nodes, shape = [helper.make_node("Relu", ["x"], ["y"])], (FLOAT, ["N"])
    return graph(nodes, {"x": shape}, {"y": shape}, ir_version=ir_version, opset=opset)


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "model.onnx is not an ONNX model, or only a part of one (0 bytes)"),
    "truncated": (lambda: addition()[:60], "model.onnx is not an ONNX model, or only a part of one (60 bytes)"),
    "text": (lambda: b"version https://git-lfs.github.com/spec/v1", "model.onnx is not an ONNX model"),
    "ir": (lambda: relu(ir_version=14), "model.onnx needs IR version 14; ONNX Runtime"),
    "opset": (lambda: relu(opset=28), "model.onnx needs opset 28 of ai.onnx; ONNX Runtime"),
    "absolute": (lambda: outside("/etc/hostname"), "model.onnx cannot be loaded"),
    "parent": (lambda: outside("../good/model.onnx"), "model.onnx cannot be loaded"),
    "absent": (lambda: outside("weights.bin"), "model.onnx cannot be loaded"),
    "custom-op": (of_a_custom_operator, "com.example:Frobnicate"),
    "unknown-op": (of_an_unknown_operator, "Frobnicate"),
    "not-text": (
        lambda: addition().replace(b"sum", b"s\xcem"),
        "model.onnx names a tensor or a dimension in what is not",
    ),
    "zipmap": (
        lambda: Path(onnxruntime.datasets.get_example("logreg_iris.onnx")).read_bytes(),
        "output `probabilities` is seq(map(int64,tensor(float))), not a tensor that the protocol can carry; this is a",
    ),
    "sequence": (
        with_a_sequence_output,
        "output `parts` is seq(tensor(float)), not a tensor that the protocol can carry",
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    write_manifest(directory / "good", addition(), name="good")
    return directory


@pytest.fixture(scope="module")
def service(launch: Launch, repository: Path) -> Iterator[Service]:
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "good"}
    service = launch("", **environment).wait_ready()
    yield service
    assert 0 == service.stop()


@pytest.fixture(autouse=True)
def serves_afterwards(service: Service) -> Iterator[None]:
    """Whatever was tried, the good model answers."""
    yield
    reply = service.post("/predict", {"input": {"a": [1, 2], "b": [3, 4]}})
    assert (200, [4.0, 6.0]) == (reply.status, reply.json["prediction"])


def load(service: Service, name: str) -> Reply:
    return send(service.ports["admin_port"], "POST", f"/v2/repository/models/{name}/load", b"{}")


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_by_name(service: Service, repository: Path, name: str) -> None:
    """What is wrong is said of the model and the file, in the answer, and in the index afterwards."""
    make, words = BROKEN[name]
    write_manifest(repository / name, make(), name=name)
    reply = load(service, name)
    assert (400, True) == (reply.status, reply.json["error"].startswith(f"failed to load '{name}': ")), reply.body
    assert words in reply.json["error"]
    index = send(service.ports["admin_port"], "POST", "/v2/repository/index").json
    [entry] = [entry for entry in index if entry["name"] == name]
    assert ("UNAVAILABLE", True) == (entry["state"], words in entry["reason"])


def test_refuses_another_digest(service: Service, repository: Path) -> None:
    """One flipped bit of the file is enough, also where ONNX Runtime would load it."""
    path = write_manifest(repository / "flipped", addition(), name="flipped").with_name("model.onnx")
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    assert f"model.onnx has the wrong digest: sha256 {sha256(bytes(content))}" in load(service, "flipped").json["error"]


def test_no_flipped_bit_ends_the_server(service: Service, repository: Path) -> None:
    """Where the digest is that of the flipped file, the model is refused in words, or it loads."""
    dice, original, statuses = random.Random(7), identity(FLOAT, ["N", 2]), []
    for number in range(FLIPS):
        content = bytearray(original)
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        name = f"flip-{number}"
        write_manifest(repository / name, bytes(content), name=name)
        reply = load(service, name)
        statuses.append(reply.status)
        assert reply.status == 200 or reply.json["error"].startswith(f"failed to load '{name}': "), reply.body
    assert {200, 400} == set(statuses)


def test_refuses_at_the_start(launch: Launch, tmp_path: Path) -> None:
    """A server whose only model is broken ends with 1, and its log says why in one line."""
    service = launch(write_manifest(tmp_path, with_a_sequence_output()))
    assert 1 == service.process.wait(60)
    [line] = [line for line in service.log() if line.get("level") == "critical"]
    assert "the service cannot start: output `parts` is seq(tensor(float))" in line["message"]


def test_refuses_a_link_that_leads_out(tmp_path: Path) -> None:
    """External data is never read through a link out of the model's directory."""
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(outside("weights.bin"))
    with pytest.raises(StartRefused, match=r"model\.onnx cannot be loaded"):
        load_model(path, name="m", version="1", platform="onnx_onnxv1", device="cpu")

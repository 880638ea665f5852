"""Models that come and go while the service runs: polled, loaded and unloaded by request, several at once."""

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.model_service.conftest import Launch, Reply, Service, describe_file, graph, send, write_manifest

FLOAT = TensorProto.FLOAT


def scaled(factor: float) -> bytes:
    """y = factor * x, row by row."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=float(factor)),
        helper.make_node("Mul", ["x", "k"], ["y"]),
    ]
    return graph(nodes, {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])})


def put(repository: Path, name: str, factor: float) -> None:
    """Put a model into the repository, its manifest last and at once, as `publish` and careful people do."""
    made = write_manifest(repository / ".incoming" / name, scaled(factor), name=name)
    target = repository / name
    target.mkdir(parents=True, exist_ok=True)
    model = target / f"scale-{factor}.onnx"
    model.write_bytes(made.with_name("model.onnx").read_bytes())
    manifest = json.loads(made.read_text())
    manifest["files"][0]["name"] = model.name
    temporary = target / "manifest.tmp"
    temporary.write_text(json.dumps(manifest))
    temporary.rename(target / "manifest.json")


def ask(service: Service, name: str, version: str | None = None) -> Reply:
    path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
    return service.post(f"{path}/infer", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]})


def answer(service: Service, name: str) -> Any:
    reply = ask(service, name)
    return reply.json["outputs"][0]["data"][0] if reply.status == 200 else reply.status


def admin(service: Service, path: str, body: bytes = b"{}") -> Reply:
    return send(service.ports["admin_port"], "POST", f"/v2/repository/{path}", body)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    put(tmp_path, "double", 2)
    put(tmp_path, "triple", 3)
    return tmp_path


@pytest.fixture
def polling(launch: Launch, repository: Path) -> Iterator[Service]:
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "poll", "MODEL_POLL_S": "0.1"}
    service = launch("", **environment).wait_ready()
    yield service
    assert 0 == service.stop()


@pytest.fixture
def explicit(launch: Launch, repository: Path) -> Iterator[Service]:
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "double"}
    service = launch("", **environment).wait_ready()
    yield service
    assert 0 == service.stop()


def test_serves_all_models_of_a_repository(polling: Service) -> None:
    """Every model of the repository has its paths; /predict asks the first."""
    assert (2.0, 3.0) == (answer(polling, "double"), answer(polling, "triple"))
    assert 2.0 == polling.post("/predict", {"input": 1}).json["prediction"]
    assert 3.0 == polling.post("/v2/models/triple/predict", {"input": 1}).json["prediction"]
    reply = ask(polling, "other")
    assert (404, "unknown model `other`; this server has `double`, `triple`") == (reply.status, reply.json["error"])
    assert {"double", "triple"} == {one["name"] for one in polling.get("/v2/models/stats").json["model_stats"]}


def test_follows_the_repository(polling: Service, repository: Path) -> None:
    """A changed manifest takes over, a new model appears, one whose manifest is removed goes."""
    old = polling.get("/v2/models/double").json["versions"]
    put(repository, "double", 20)
    put(repository, "half", 0.5)
    polling.wait_until(lambda: answer(polling, "double") == 20.0, "changed")
    polling.wait_until(lambda: answer(polling, "half") == 0.5, "appeared")
    assert old != polling.get("/v2/models/double").json["versions"]
    polling.wait_until(lambda: ask(polling, "double", old[0]).status == 404, "retired")
    (repository / "triple/manifest.json").unlink()
    polling.wait_until(lambda: answer(polling, "triple") == 404, "gone")
    assert 20.0 == answer(polling, "double")


def test_what_fails_leaves_the_old_one_serving(polling: Service, repository: Path) -> None:
    """A broken model is refused by name in the log, and changes nothing; a mended one is taken."""
    manifest = repository / "double/manifest.json"
    good = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(good | {"files": [good["files"][0] | {"sha256": "0" * 64}]}))
    polling.wait_until(lambda: "has the wrong digest" in polling.log_path.read_text(), "complained")
    assert 2.0 == answer(polling, "double")
    manifest.write_text("{")
    polling.wait_until(lambda: "the model manifest cannot be used" in polling.log_path.read_text(), "complained")
    put(repository, "double", 4)
    polling.wait_until(lambda: answer(polling, "double") == 4.0, "mended")


def test_what_failed_for_a_while_is_tried_again(polling: Service, repository: Path) -> None:
    """Where the store, the disk or the memory was at fault the manifest will not change: the load is tried again, after
    ever longer pauses that the log tells."""
    put(repository, "double", 5)
    model = repository / "double/scale-5.onnx"
    content = model.read_bytes()
    model.unlink()

    def complaints() -> list[str]:
        return [line["message"] for line in polling.log() if "model double: " in line["message"]]

    polling.wait_until(lambda: len(complaints()) >= 2, "tried again")
    model.write_bytes(content)
    polling.wait_until(lambda: answer(polling, "double") == 5.0, "loaded")
    pauses = [float(line.split()[-2]) for line in complaints()]
    assert all("tried again when it changes, or in " in line for line in complaints())
    assert pauses == sorted(pauses)


def test_goldens_that_cannot_be_read_do_not_end_the_polling(polling: Service, repository: Path) -> None:
    """Whatever a file of golden inputs holds, the model is refused by name, and the repository is followed further."""
    for name, content in (("empty", b""), ("array", bytes_of_an_array())):
        made = write_manifest(repository / ".incoming" / name, scaled(7), name=name, golden={})
        (made.with_name("golden.npz")).write_bytes(content)
        manifest = json.loads(made.read_text()) | {"golden": describe_file(made.with_name("golden.npz"))}
        made.write_text(json.dumps(manifest))
        made.parent.rename(repository / name)
        words = f"model {name}: the golden inputs cannot be used"
        polling.wait_until(lambda words=words: [line for line in polling.log() if words in line["message"]], "refused")
    put(repository, "double", 4)
    polling.wait_until(lambda: answer(polling, "double") == 4.0, "followed")


def bytes_of_an_array() -> bytes:
    """The content of a .npy file, which is no .npz."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def test_nothing_is_loaded_beside_the_start(launch: Launch, repository: Path) -> None:
    """While the first models are still loading, load and unload are told to come again; nothing is loaded twice."""
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "double"}
    held = repository / "go"
    wait = f"import pathlib, time\ndef startup():\n    while not pathlib.Path({str(held)!r}).exists(): time.sleep(0.01)"
    service = launch("", code=wait, **environment).wait_listening()
    for change in ("load", "unload"):
        reply = admin(service, f"models/double/{change}")
        assert (503, "1") == (reply.status, reply.headers["retry-after"])
    held.touch()
    service.wait_ready()
    assert 200 == admin(service, "models/double/load").status
    samples = [line for line in service.metrics().splitlines() if line.startswith("nv_inference_count{")]
    assert 1 == len(samples)
    assert 0 == service.stop()


def test_of_many_that_unload_one_does(launch: Launch, repository: Path) -> None:
    """Of several that ask at once to unload a model, one has it unloaded; the others are told that it is not there."""
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "double"}
    service = launch("", **environment, KEEP_VERSIONS="2").wait_ready()
    put(repository, "double", 5)
    assert 200 == admin(service, "models/double/load").status
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: admin(service, "models/double/unload"), range(8)))
    assert [200, *[404] * 7] == sorted(reply.status for reply in replies)
    assert 0 == service.stop()


def test_loads_and_unloads_on_request(explicit: Service, repository: Path) -> None:
    """The repository API of the admin port: index, load, unload, load again; the old version is answered to its end."""
    assert (2.0, 404) == (answer(explicit, "double"), answer(explicit, "triple"))
    states = {entry["name"]: entry["state"] for entry in admin(explicit, "index", b"").json}
    assert {"double": "READY", "triple": "UNAVAILABLE"} == states
    assert 200 == admin(explicit, "models/triple/load").status
    assert 3.0 == answer(explicit, "triple")
    assert 200 == admin(explicit, "models/double/unload", b'{"parameters":{"unload_dependents":false}}').status
    assert 404 == answer(explicit, "double")
    assert 404 == admin(explicit, "models/double/unload").status
    put(repository, "double", 8)
    assert 200 == admin(explicit, "models/double/load").status
    assert 8.0 == answer(explicit, "double")
    assert 200 == admin(explicit, "models/double/load").status  # nothing changed
    assert 8.0 == answer(explicit, "double")


def test_a_failed_load_says_why(explicit: Service, repository: Path) -> None:
    """In Triton's words, with the reason, which stays in the index; what was served is served."""
    (repository / "double/manifest.json").write_text("{}")
    reply = admin(explicit, "models/double/load")
    assert 400 == reply.status
    assert "failed to load 'double': the model manifest cannot be used" in reply.json["error"]
    assert 2.0 == answer(explicit, "double")
    ready, failed = [entry for entry in admin(explicit, "index").json if entry["name"] == "double"]
    assert ("READY", "UNAVAILABLE") == (ready["state"], failed["state"])
    assert "the model manifest cannot be used" in failed["reason"]
    assert 1 == explicit.metrics_value("model_service_failed_loads_total")
    reply = admin(explicit, "models/nothing/load")
    assert (400, True) == (reply.status, "the repository has no such model" in reply.json["error"])


def test_nothing_can_be_unloaded_by_default(digits: Service) -> None:
    """With default settings the admin port says what it takes to load and unload; the served port has no such path."""
    words = "MODEL_CONTROL is none; to load and unload takes MODEL_CONTROL=explicit"
    for path in ("models/digits/unload", "models/digits/load"):
        assert 404 == digits.post(f"/v2/repository/{path}", {}).status
        reply = admin(digits, path)
        assert (404, words) == (reply.status, reply.json["error"])
    assert 404 == digits.post("/v2/repository/index", {}).status


def test_several_versions_side_by_side(launch: Launch, repository: Path) -> None:
    """With KEEP_VERSIONS=2 the version of before stays under its own path, and the one before that goes."""
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "double"}
    service = launch("", **environment, KEEP_VERSIONS="2").wait_ready()
    for factor in (5, 6):
        put(repository, "double", factor)
        assert 200 == admin(service, "models/double/load").status
    old, new = service.get("/v2/models/double").json["versions"]
    found = [ask(service, "double", version).json["outputs"][0]["data"][0] for version in (old, new)]
    assert ([5.0, 6.0], 6.0) == (found, answer(service, "double"))
    assert 0 == service.stop()


def test_swaps_under_load_fail_nobody(polling: Service, repository: Path) -> None:
    """While versions take over one another every request is answered, by one version or the other."""
    stopped, seen = threading.Event(), []

    def call() -> None:
        while not stopped.is_set():
            seen.append(answer(polling, "double"))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for factor in range(10, 18):
        put(repository, "double", factor)
        polling.wait_until(lambda factor=factor: seen and seen[-1] == float(factor), f"at {factor}")
    stopped.set()
    for caller in callers:
        caller.join()
    assert {2.0, *map(float, range(10, 18))} >= set(seen)
    assert 17.0 == seen[-1]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MODEL_CONTROL": "poll"}, "MODEL_CONTROL=poll needs MODEL_REPOSITORY_URI"),
        ({"MODEL_REPOSITORY_URI": "file:///x"}, "MODEL_MANIFEST_URI and MODEL_REPOSITORY_URI are both given"),
        ({"MODEL_CONTROL": "watch"}, "MODEL_CONTROL='watch' is not one of none, poll, explicit"),
    ],
)
def test_a_pinned_model_is_not_followed(
    launch: Launch, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    """Settings that contradict each other end the process with their names."""
    service = launch(write_manifest(tmp_path, scaled(1)), **environment)
    assert 2 == service.process.wait(30)
    assert words in service.log()[-1]["message"]


def test_a_repository_that_is_not_there_is_named(launch: Launch, tmp_path: Path) -> None:
    """A directory that does not exist, and a model that LOAD_MODELS names in vain, end the start."""
    for environment, words in (
        ({"MODEL_REPOSITORY_URI": (tmp_path / "nowhere").as_uri()}, "is no directory"),
        (
            {"MODEL_REPOSITORY_URI": tmp_path.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "x"},
            "LOAD_MODELS names `x`",
        ),
    ):
        service = launch("", **environment)
        assert 1 == service.process.wait(30)
        assert words in service.log()[-1]["message"]


def test_one_broken_model_does_not_keep_the_others_from_starting(launch: Launch, repository: Path) -> None:
    """A repository that is followed is served as far as it can be; the broken model is named, and taken when mended."""
    put(repository, "broken", 1)
    model = next((repository / "broken").glob("*.onnx"))
    good = model.read_bytes()
    model.write_bytes(good[:-10])
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "poll", "MODEL_POLL_S": "0.1"}
    service = launch("", **environment).wait_ready()
    assert (2.0, 404) == (answer(service, "double"), answer(service, "broken"))
    assert "model broken: scale-1.onnx has the wrong size" in service.log_path.read_text()
    assert [] == [path for path in service.log_path.parent.glob("models/*") if path.name.startswith("broken")]
    put(repository, "broken", 7)
    service.wait_until(lambda: answer(service, "broken") == 7.0, "mended")
    assert 0 == service.stop()


def test_a_repository_of_broken_models_is_refused(launch: Launch, tmp_path: Path) -> None:
    """Where nothing can be served the start fails; without polling one broken model is enough, and is named."""
    put(tmp_path, "broken", 1)
    next((tmp_path / "broken").glob("*.onnx")).write_bytes(b"")
    for control, words in (("poll", "none of the models in the repository can be served"), ("none", "model broken: ")):
        service = launch("", MODEL_REPOSITORY_URI=tmp_path.as_uri(), MODEL_CONTROL=control)
        assert 1 == service.process.wait(30)
        assert words in service.log()[-1]["message"]


def test_predict_asks_who_is_there(explicit: Service, repository: Path) -> None:
    """/predict asks the model that has been there longest; without any it is 404 in words, not a fault of ours."""
    assert 200 == admin(explicit, "models/triple/load").status
    assert 2.0 == explicit.post("/predict", {"input": 1}).json["prediction"]
    assert 200 == admin(explicit, "models/double/unload").status
    assert 3.0 == explicit.post("/predict", {"input": 1}).json["prediction"]
    assert 200 == admin(explicit, "models/triple/unload").status
    reply = explicit.post("/predict", {"input": 1})
    assert (404, "/predict has no model to ask: no model is loaded") == (reply.status, reply.json["error"])


def test_predict_asks_the_default_model(launch: Launch, repository: Path) -> None:
    """DEFAULT_MODEL says whom /predict asks, and until that one is there nobody else answers for it."""
    environment = {"MODEL_REPOSITORY_URI": repository.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "double"}
    service = launch("", **environment, DEFAULT_MODEL="triple").wait_ready()
    assert 404 == service.post("/predict", {"input": 1}).status
    assert 200 == admin(service, "models/triple/load").status
    assert 3.0 == service.post("/predict", {"input": 1}).json["prediction"]
    assert 0 == service.stop()


def test_goes_back_to_a_version_of_before(polling: Service, repository: Path) -> None:
    """A version that comes back while it is still being retired is served again, with its files."""
    for factor in (5, 2, 5, 2):
        put(repository, "double", factor)
        polling.wait_until(lambda factor=factor: answer(polling, "double") == float(factor), f"at {factor}")
    assert 2.0 == answer(polling, "double")

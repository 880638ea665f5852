"""The environment, checked before anything else happens."""

from pathlib import Path

import pytest
from onnx import TensorProto

from model_service.errors import StartRefused
from model_service.settings import read_settings, similar_variables
from tests.model_service.conftest import Launch, identity, write_manifest

PINNED = {
    "MODEL_MANIFEST_URI": "s3://bucket/models/manifest.json",
    "MODEL_MANIFEST_VERSION_ID": "v1",
    "MODEL_MANIFEST_SHA256": "a" * 64,
}


def test_reads_the_task_definition_s_variables() -> None:
    """The variables that the task definition sets become settings of the right types."""
    settings = read_settings({**PINNED, "PORT": "9000", "MODEL_DIR": "/data", "DRAIN_S": "0.5", "DEVICE": "CPU"})
    assert (9000, Path("/data"), 0.5, "cpu", 8081) == (
        settings.port,
        settings.model_dir,
        settings.drain_s,
        settings.device,
        settings.admin_port,
    )


def test_tells_every_fault_at_once() -> None:
    """One message names every variable that is wrong, with its value and what would be right."""
    with pytest.raises(StartRefused) as refused:
        read_settings({"PORT": "http", "RELEASE_ID": "a/b", "DEVICE": "tpu", "MODEL_MANIFEST_URI": "/models"})
    message = str(refused.value)
    assert "PORT='http' is not a whole number from 0 to 65535" in message
    assert "RELEASE_ID='a/b' is not 1 to 64 of the characters" in message
    assert "DEVICE='tpu' is not one of cpu, cuda" in message
    assert "MODEL_MANIFEST_URI='/models' is neither s3://bucket/key nor file:///absolute/path" in message


def test_wants_a_manifest() -> None:
    """Without a manifest there is nothing to serve, and the message names both variables that could."""
    with pytest.raises(StartRefused, match="MODEL_MANIFEST_URI is missing, or MODEL_REPOSITORY_URI"):
        read_settings({})


@pytest.mark.parametrize("pin", ["MODEL_MANIFEST_VERSION_ID", "MODEL_MANIFEST_SHA256"])
def test_takes_s3_only_pinned(pin: str) -> None:
    """A manifest in S3 without its VersionId or its sha256 is refused."""
    environ = {name: value for name, value in PINNED.items() if name != pin}
    with pytest.raises(StartRefused, match=f"{pin} is missing"):
        read_settings(environ)


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ({"PORT": "9000", "ADMIN_PORT": "9000"}, "PORT and ADMIN_PORT are both 9000"),
        ({"PORT": "8081"}, "PORT and ADMIN_PORT are both 8081"),
        ({"GRPC_PORT": "8080"}, "PORT and GRPC_PORT are both 8080"),
        ({"ADMIN_PORT": "8001", "GRPC_PORT": "8001"}, "ADMIN_PORT and GRPC_PORT are both 8001"),
    ],
)
def test_wants_a_port_for_each(ports: dict[str, str], words: str) -> None:
    """Two servers on one port are a contradiction, also where one of them is the default; free ports are none."""
    with pytest.raises(StartRefused, match=words):
        read_settings({**PINNED, **ports})
    assert 0 == read_settings({**PINNED, "PORT": "0", "ADMIN_PORT": "0", "GRPC_PORT": "0"}).port


@pytest.mark.parametrize("control", ["none", "poll"])
def test_takes_models_to_load_only_where_they_are_loaded_by_name(control: str) -> None:
    """LOAD_MODELS would do nothing without MODEL_CONTROL=explicit, and is refused."""
    environ = {"MODEL_REPOSITORY_URI": "file:///models", "LOAD_MODELS": "a"}
    with pytest.raises(StartRefused, match=f"LOAD_MODELS needs MODEL_CONTROL=explicit: with {control}"):
        read_settings(environ | {"MODEL_CONTROL": control})
    assert "a" == read_settings(environ | {"MODEL_CONTROL": "explicit"}).load_models


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_BODYBYTES", "MAX_BODY_BYTES"),
        ("max_rows", "MAX_ROWS"),
        ("REQUEST_TIMEOUT_MS", "REQUEST_TIMEOUT_S"),
        ("LOG_LEVELS", "LOG_LEVEL"),
    ],
)
def test_knows_a_variable_that_is_misspelt(name: str, meant: str) -> None:
    """One that is called almost as a setting is told with the setting that was meant; its value is not."""
    assert [f"the variable {name} is not read: did you mean {meant}?"] == similar_variables({**PINNED, name: "1"})


@pytest.mark.parametrize("name", ["PATH", "PORT0", "HOSTNAME", "AWS_EMF_NAMESPACE", "MODEL_NAME", "API_KEY"])
def test_leaves_other_variables_alone(name: str) -> None:
    """What another program may read is nobody's business."""
    assert [] == similar_variables({**PINNED, name: "1"})


def test_warns_of_a_misspelt_variable_at_the_start(launch: Launch, tmp_path: Path) -> None:
    """The log says so, and the service serves."""
    manifest = write_manifest(tmp_path, identity(TensorProto.FLOAT, [None]))
    service = launch(manifest, MAX_BODYBYTES="17").wait_ready()
    warnings = [line["message"] for line in service.log() if line["level"] == "warning"]
    assert ["the variable MAX_BODYBYTES is not read: did you mean MAX_BODY_BYTES?"] == warnings


def test_warns_of_batching_that_cannot_be(launch: Launch, tmp_path: Path) -> None:
    """A manifest that wants batches of a model whose first axis is fixed is served one by one, and told so."""
    model = identity(TensorProto.FLOAT, [1, 2])
    service = launch(write_manifest(tmp_path, model, batching={"max_batch": 16})).wait_ready()
    warnings = [line["message"] for line in service.log() if line["level"] == "warning"]
    assert ["no batching: max_batch is 16, but the first axis of `x` [1, 2] is fixed"] == warnings

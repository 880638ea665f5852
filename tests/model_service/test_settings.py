"""The environment, checked before anything else happens."""

from pathlib import Path

import pytest

from model_service.errors import StartRefused
from model_service.settings import read_settings

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
    """Without a manifest there is nothing to serve, and the message names the variable."""
    with pytest.raises(StartRefused, match="MODEL_MANIFEST_URI is missing"):
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

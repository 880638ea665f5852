"""What stands under MODEL_DIR: reused if it is right, replaced if not, and never written through a link."""

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto

from model_service.errors import StartRefused
from model_service.settings import Settings
from model_service.store import fetch
from tests.model_service.conftest import REPOSITORY, describe_file, identity, write_manifest
from tests.model_service.store.conftest import CONTENT, QUICK, FakeS3

MODEL = identity(TensorProto.FLOAT, [None, 2])


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Settings:
    """A model beside its manifest."""
    return Settings(write_manifest(tmp_path / "source", MODEL).as_uri(), model_dir=models)


def test_reuses_what_an_earlier_process_left(s3: FakeS3, models: Path) -> None:
    """A model that is there with the right digests is not fetched again."""
    settings = s3.publish()
    first = fetch(settings, QUICK)
    s3.asked.clear()

    second = fetch(settings, QUICK)

    assert first == second
    assert [] == s3.asked
    assert CONTENT == second.model_path.read_bytes()


def flip_a_bit(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)


def add_a_file(model: Path) -> None:
    (model.parent / "weights.bin").write_bytes(b"external data that the manifest does not name")


def replace_by_link(model: Path) -> None:
    elsewhere = model.parent.parent.parent / "elsewhere.onnx"
    model.rename(elsewhere)
    model.symlink_to(elsewhere)


def replace_by_pipe(model: Path) -> None:
    model.unlink()
    os.mkfifo(model)


@pytest.mark.parametrize("damage", [flip_a_bit, add_a_file, replace_by_link, replace_by_pipe, Path.unlink])
def test_replaces_what_is_not_as_it_was_stored(settings: Settings, damage: object) -> None:
    """A changed, missing or additional file, or something else in a file's place: the model is fetched anew."""
    stored = fetch(settings)
    assert callable(damage)
    damage(stored.model_path)

    again = fetch(settings)

    assert ["model.onnx"] == os.listdir(again.directory)
    assert not again.model_path.is_symlink()
    assert MODEL == again.model_path.read_bytes()


def test_does_not_write_through_a_link(settings: Settings, models: Path, tmp_path: Path) -> None:
    """A link in the model's place is replaced; what it points to stays as it is."""
    target = fetch(settings).directory
    shutil.rmtree(target)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.onnx").write_bytes(b"of another")
    target.symlink_to(tmp_path / "elsewhere")

    stored = fetch(settings)

    assert not stored.directory.is_symlink()
    assert MODEL == stored.model_path.read_bytes()
    assert b"of another" == (tmp_path / "elsewhere" / "model.onnx").read_bytes()


def test_removes_what_killed_processes_left(settings: Settings, models: Path) -> None:
    """Half-filled directories do not pile up; the one that a living process fills is left alone."""
    for name in (".incoming-dead", ".incoming-alive"):
        (models / name).mkdir(parents=True)
        (models / name / "model.onnx").write_bytes(b"half")
    alive = os.open(models / ".incoming-alive", os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)

    stored = fetch(settings)

    os.close(alive)
    assert {".incoming-alive", stored.directory.name} == set(os.listdir(models))


def test_tells_a_disk_that_is_too_small(s3: FakeS3, models: Path) -> None:
    """A model that does not fit is refused with both numbers before a byte of it is asked for."""
    free_bytes = shutil.disk_usage(models.parent).free
    size_bytes = free_bytes + 2**40
    settings = replace(s3.publish(size_bytes=size_bytes), max_model_bytes=2**50)

    with pytest.raises(StartRefused, match=rf"{models} is full: the model needs {size_bytes} bytes and \d+ are free"):
        fetch(settings, QUICK)

    assert [] == s3.asked
    assert [] == list(models.iterdir())


def test_tells_a_file_that_may_not_be_written(settings: Settings, models: Path) -> None:
    """A limit that is met while the files are made is a refusal with the system's words, and leaves nothing."""
    program = "import sys, model_service.store, model_service.settings\n" + (
        f"settings = model_service.settings.Settings({settings.model_manifest_uri!r}, model_dir="
        f"__import__('pathlib').Path({str(models)!r}))\n"
        "model_service.store.fetch(settings)"
    )

    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
        capture_output=True,
        text=True,
    )

    assert f"StartRefused: the model cannot be stored under MODEL_DIR {models}: [Errno {errno.EFBIG}]" in done.stderr
    assert [] == list(models.iterdir())


def test_stores_every_file_of_the_manifest(tmp_path: Path, models: Path) -> None:
    """External data lies beside the model, an empty file too."""
    (tmp_path / "source").mkdir()
    files = {"model.onnx": MODEL, "weights.bin": CONTENT, "empty.bin": b""}
    for name, content in files.items():
        (tmp_path / "source" / name).write_bytes(content)
    described = [describe_file(tmp_path / "source" / name) for name in files]
    manifest = write_manifest(tmp_path / "source", MODEL, files=described)

    stored = fetch(Settings(manifest.as_uri(), model_dir=models), QUICK)

    assert files == {path.name: path.read_bytes() for path in stored.directory.iterdir()}


def test_refuses_an_empty_file_that_is_not_empty(tmp_path: Path, models: Path) -> None:
    """A file of which the manifest says 0 bytes must have none."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "empty.bin").write_bytes(b"")
    described = describe_file(tmp_path / "source" / "empty.bin")
    manifest = write_manifest(tmp_path / "source", MODEL, files=[described])
    (tmp_path / "source" / "empty.bin").write_bytes(b"x")

    with pytest.raises(StartRefused, match=r"empty\.bin has the wrong size: more than 0 bytes"):
        fetch(Settings(manifest.as_uri(), model_dir=models))


def test_a_local_model_needs_no_boto3(settings: Settings, models: Path) -> None:
    """A file:// manifest is served where boto3 is not even installed."""
    program = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None\n" + (
        "from pathlib import Path; from model_service.settings import Settings; from model_service.store import fetch\n"
        f"print(fetch(Settings({settings.model_manifest_uri!r}, model_dir=Path({str(models)!r}))).model_path)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert MODEL == Path(done.stdout.strip()).read_bytes()

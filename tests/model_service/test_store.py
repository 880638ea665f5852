"""Fetching a model: pinned by VersionId and digest, all or nothing."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from onnx import TensorProto

from model_service.errors import StartRefused
from model_service.settings import Settings
from model_service.store import fetch
from tests.model_service.conftest import describe_file, identity, send, sha256, write_manifest
from tests.model_service.store.conftest import QUICK

MODEL = identity(TensorProto.FLOAT, [None, 2])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A versioned bucket named `artifacts` in a moto server of its own; AWS_ENDPOINT_URL points there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    bucket = boto3.resource("s3").Bucket("artifacts")
    bucket.Versioning().enable()
    yield bucket
    send(port, "POST", "/moto-api/reset")  # moto's state outlives its server
    server.stop()


def put(bucket: Any, key: str, content: bytes) -> str:
    """The VersionId of `content` at `key`."""
    return bucket.put_object(Key=key, Body=content).version_id


def publish(bucket: Any, directory: Path, model: bytes = MODEL) -> dict[str, str]:
    """A model and its manifest in S3, as the environment variables that pin them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(model)
    pin = {"key": "models/tiny/model.onnx", "version_id": put(bucket, "models/tiny/model.onnx", model)}
    manifest = {
        "format": "onnxship.model/1",
        "name": "tiny",
        "files": [describe_file(directory / "model.onnx") | pin],
    }
    content = json.dumps(manifest).encode()
    return {
        "MODEL_MANIFEST_URI": "s3://artifacts/models/tiny/manifest.json",
        "MODEL_MANIFEST_VERSION_ID": put(bucket, "models/tiny/manifest.json", content),
        "MODEL_MANIFEST_SHA256": sha256(content),
    }


def settings_for(pins: dict[str, str], model_dir: Path) -> Settings:
    return Settings(**{name.lower(): value for name, value in pins.items()}, model_dir=model_dir)


def test_takes_the_pinned_version(bucket: Any, tmp_path: Path) -> None:
    """Objects that were overwritten since do not matter: the pinned versions are fetched."""
    pins = publish(bucket, tmp_path / "one")
    publish(bucket, tmp_path / "two", b"something else")
    stored = fetch(settings_for(pins, tmp_path / "models"))
    assert MODEL == stored.model_path.read_bytes()
    assert (tmp_path / "models" / f"tiny-{pins['MODEL_MANIFEST_SHA256'][:12]}") == stored.directory


def test_serves_from_s3(bucket: Any, tmp_path: Path, launch: Any) -> None:
    """A service started with the task definition's variables becomes ready with the model from S3."""
    pins = publish(bucket, tmp_path)
    service = launch(pins["MODEL_MANIFEST_URI"], **pins).wait_ready()
    assert [pins["MODEL_MANIFEST_SHA256"][:12]] == service.get("/v2/models/tiny").json["versions"]


def test_refuses_a_manifest_with_another_digest(bucket: Any, tmp_path: Path) -> None:
    """A manifest that is not the one in the task definition is refused with both digests, and nothing is stored."""
    pins = publish(bucket, tmp_path / "one") | {"MODEL_MANIFEST_SHA256": "0" * 64}
    with pytest.raises(StartRefused, match=f"wrong digest: sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        fetch(settings_for(pins, tmp_path / "models"))
    assert not (tmp_path / "models").exists()


def test_names_what_s3_refused(bucket: Any, tmp_path: Path) -> None:
    """A version that does not exist is named with its address and S3's own words."""
    pins = publish(bucket, tmp_path / "one") | {"MODEL_MANIFEST_VERSION_ID": "no-such-version"}
    with pytest.raises(StartRefused, match=r"cannot read s3://artifacts/models/tiny/manifest\.json .*NoSuchVersion"):
        fetch(settings_for(pins, tmp_path / "models"))


def test_says_when_s3_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is a refusal in words, not a traceback of its client."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    pins = {"model_manifest_uri": "s3://b/m.json", "model_manifest_version_id": "v"}
    with pytest.raises(StartRefused, match=r"cannot read s3://b/m\.json .*Could not connect"):
        fetch(Settings(**pins, model_dir=tmp_path), QUICK)


def test_a_connection_that_breaks_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of S3 that ends too early is told with the object's address, and nothing is stored."""

    class Short(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"{")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Short)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    pins = {"model_manifest_uri": "s3://bucket/m.json", "model_manifest_version_id": "v"}
    with pytest.raises(StartRefused, match=r"cannot read s3://bucket/m\.json \(version v\)"):
        fetch(Settings(**pins, model_dir=tmp_path / "models"), QUICK)
    server.shutdown()
    server.server_close()
    assert not (tmp_path / "models").exists()


def test_leaves_nothing_half_done(tmp_path: Path) -> None:
    """A model file with another digest is refused by name, and no part of the model is left behind."""
    manifest = write_manifest(tmp_path / "source", MODEL)
    (tmp_path / "source" / "model.onnx").write_bytes(bytes(len(MODEL)))
    with pytest.raises(StartRefused, match=r"model\.onnx has the wrong digest"):
        fetch(Settings(manifest.as_uri(), model_dir=tmp_path / "models"))
    assert [] == list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(("content", "words"), [(MODEL + b"x", "more than"), (MODEL[:-1], "instead of")])
def test_refuses_another_size(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that is longer or shorter than the manifest says is refused."""
    manifest = write_manifest(tmp_path / "source", MODEL)
    (tmp_path / "source" / "model.onnx").write_bytes(content)
    with pytest.raises(StartRefused, match=f"wrong size: .*{words} {len(MODEL)} bytes|wrong size: .*{words}"):
        fetch(Settings(manifest.as_uri(), model_dir=tmp_path / "models"))


def test_refuses_a_model_over_the_limit(tmp_path: Path) -> None:
    """A model larger than MAX_MODEL_BYTES is refused before it is fetched."""
    settings = Settings(write_manifest(tmp_path, MODEL).as_uri(), model_dir=tmp_path / "models", max_model_bytes=10)
    with pytest.raises(StartRefused, match="MAX_MODEL_BYTES allows 10"):
        fetch(settings)


def test_replaces_what_an_earlier_process_left(tmp_path: Path) -> None:
    """A directory of the same model, however it looks, is replaced by a verified one."""
    settings = Settings(write_manifest(tmp_path / "source", MODEL).as_uri(), model_dir=tmp_path / "models")
    fetch(settings).model_path.write_bytes(b"damaged")
    assert MODEL == fetch(replace(settings)).model_path.read_bytes()


def test_says_when_the_directory_cannot_be_written(tmp_path: Path) -> None:
    """A MODEL_DIR that is no directory is named in the refusal."""
    (tmp_path / "models").write_text("a file")
    settings = Settings(write_manifest(tmp_path / "source", MODEL).as_uri(), model_dir=tmp_path / "models")
    with pytest.raises(StartRefused, match="MODEL_DIR"):
        fetch(settings)


def test_says_when_the_directory_is_read_only(tmp_path: Path) -> None:
    """Where no directory may be made, as under /sys not even by root, MODEL_DIR is named as what cannot be written."""
    settings = Settings(write_manifest(tmp_path, MODEL).as_uri(), model_dir=Path("/sys/models"))
    with pytest.raises(StartRefused, match=r"MODEL_DIR /sys/models cannot be written: .*; name a directory that"):
        fetch(settings)


def test_says_when_a_file_cannot_be_read(tmp_path: Path) -> None:
    """A manifest, or a file of it, that is not there is told by its path, and not as a fault of MODEL_DIR."""
    settings = Settings((tmp_path / "manifest.json").as_uri(), model_dir=tmp_path / "models")
    with pytest.raises(StartRefused) as refused:
        fetch(settings)
    assert f"the manifest {tmp_path}/manifest.json cannot be read: No such file or directory" == str(refused.value)
    write_manifest(tmp_path, MODEL)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(StartRefused) as refused:
        fetch(settings)
    assert f"the manifest's file {tmp_path}/model.onnx cannot be read: No such file or directory" == str(refused.value)

"""What an image is made of: the context and its digest, deterministic layers, Docker's words."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from pipeline.aws.oci_registry import upload_path
from pipeline.building import docker
from pipeline.building.context import BuildContext, ContextFile, build_context
from pipeline.building.oci import oci_image
from pipeline.config import Config
from pipeline.errors import ConfigError
from tests.pipeline.conftest import SERVICE, Configure

FILES = (ContextFile("b.py", b"b"), ContextFile("a/run", b"#!", is_executable=True))


def paths(context: BuildContext) -> set[str]:
    return {file.path for file in context.files}


def test_the_default_context_is_the_server_with_the_users_code(config: Config, project: Path) -> None:
    """Without a Dockerfile the image is model_service, service.py and what stands beside it."""
    (project / "helper.py").write_text("x = 1\n")
    (project / "requirements.txt").write_text("scipy\n")
    (project / "notes.md").write_text("not code\n")

    context = build_context(config, SERVICE)

    own = {path for path in paths(context) if not path.startswith("model_service/")}
    assert own == {"service.py", "helper.py", "requirements.txt"}
    assert {"model_service/__main__.py", "model_service/health.py"} < paths(context)
    assert not any("__pycache__" in path for path in paths(context))


def test_without_service_py_nothing_of_the_users_is_taken(config: Config, project: Path) -> None:
    """A training script or its requirements do not end up in the image by standing there."""
    (project / "service.py").rename(project / "train.py")
    (project / "requirements.txt").write_text("torch\n")

    assert all(path.startswith("model_service/") for path in paths(build_context(config, SERVICE)))


def test_the_digest_follows_the_content(config: Config, project: Path) -> None:
    """The same files give the same digest; a changed byte, another base or builder give another."""
    first = build_context(config, SERVICE).digest
    again = build_context(config, SERVICE).digest
    (project / "service.py").write_text("changed = True\n")
    changed = build_context(config, SERVICE).digest

    assert first == again
    assert first != changed


@pytest.mark.parametrize("change", [{"image.base": "python:3.12"}, {"image.builder": "docker"}])
def test_the_digest_covers_how_it_is_built(configure: Configure, change: dict[str, str]) -> None:
    """Arguments and builder are part of an image's identity."""
    before = build_context(configure(), SERVICE).digest

    assert build_context(configure(**change), SERVICE).digest != before


def test_a_directory_of_ones_own_obeys_dockerignore(configure: Configure, project: Path) -> None:
    """What .dockerignore leaves out does not change the digest; the Dockerfile always counts."""
    own = project / "own"
    for name in ("Dockerfile", "app.py", "keep.log", "logs/a.log", "logs/deep/b.log", "data/x.bin"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(name)
    (own / ".dockerignore").write_text("# comment\n**/*.log\n!keep.log\ndata\nDockerfile\n")

    context = build_context(configure(image={"context": "own", "dockerfile": "Dockerfile"}), SERVICE)

    assert paths(context) == {".dockerignore", "Dockerfile", "app.py", "keep.log"}
    assert context.directory == own


def test_the_layers_builder_cannot_run_a_dockerfile(configure: Configure, project: Path) -> None:
    """The combination is refused with the setting that helps."""
    config = configure(image={"builder": "layers", "dockerfile": "Dockerfile"})

    with pytest.raises(ConfigError, match="cannot run a Dockerfile"):
        build_context(config, SERVICE)


@pytest.mark.parametrize(
    ("image", "words"),
    [({"context": "nowhere"}, "no directory"), ({"dockerfile": "Nofile"}, "There is no Nofile")],
)
def test_missing_paths_are_named(configure: Configure, image: dict[str, str], words: str) -> None:
    """A wrong context or Dockerfile is an error in the configuration."""
    with pytest.raises(ConfigError, match=words):
        build_context(configure(image=image), SERVICE)


def test_the_same_files_are_the_same_image() -> None:
    """Neither order nor time nor machine stands in the bytes, so the digest is the same."""
    first, second = oci_image(FILES), oci_image(tuple(reversed(FILES)))

    assert first.manifest.digest == second.manifest.digest


def test_the_image_is_what_a_runtime_expects() -> None:
    """The manifest names config and layer by digest and size; the config says how to run what the layer holds."""
    image = oci_image(FILES)

    manifest, config = json.loads(image.manifest.content), json.loads(image.config.content)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(image.layer.content))) as archive:
        members = {m.name: (m.mode, m.uid, m.gid, m.mtime) for m in archive.getmembers()}
    assert manifest["config"]["digest"] == image.config.digest
    assert [(layer["digest"], layer["size"]) for layer in manifest["layers"]] == [
        (image.layer.digest, len(image.layer.content))
    ]
    assert members == {"app/a/run": (0o755, 10001, 10001, 0), "app/b.py": (0o644, 10001, 10001, 0)}
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Cmd"] == ["python", "-m", "model_service"]
    assert (config["config"]["User"], config["config"]["WorkingDir"]) == ("10001:10001", "/app")


def test_buildx_makes_one_amd64_manifest() -> None:
    """No attestations: an index would have a digest of its own."""
    command = docker.buildx_command(Path("/c"), Path("/c/Dockerfile"), "r:t", {"BASE": "python"})

    assert command == [
        *("docker", "buildx", "build", "--platform", "linux/amd64", "--provenance=false", "--sbom=false"),
        *("--build-arg", "BASE=python", "--progress", "plain", "--file", "/c/Dockerfile", "--tag", "r:t"),
        *("--push", "/c"),
    ]


def test_a_docker_without_buildx_builds_then_pushes() -> None:
    """Two commands instead of one, for the same platform."""
    build, push = docker.classic_commands(Path("/c"), Path("/c/Dockerfile"), "r:t", {})

    assert build == ["docker", "build", "--platform", "linux/amd64", "--file", "/c/Dockerfile", "--tag", "r:t", "/c"]
    assert push == ["docker", "push", "r:t"]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("http://127.0.0.1:5/v2/r/blobs/uploads/1", "/v2/r/blobs/uploads/1?digest=sha256%3A0"),
        ("/v2/r/blobs/uploads/1?state=x", "/v2/r/blobs/uploads/1?state=x&digest=sha256%3A0"),
    ],
)
def test_an_upload_ends_where_the_registry_says(location: str, path: str) -> None:
    """The registry's own query is kept, the digest added."""
    assert upload_path(location, "sha256:0") == path

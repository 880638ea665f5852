"""What an image is made of: the context and its digest, deterministic layers, Docker's words."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from pipeline.aws.oci_registry import upload_path
from pipeline.building import docker, docker_settings
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
    (project / "requirements.txt").write_text("numpy\n")
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
    (project / "service.py").write_text("def startup(): ...\n")
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


@pytest.mark.parametrize(
    ("platform", "is_refused"),
    [("linux/arm64", True), ("$BUILDPLATFORM", True), ("linux/amd64", False), ("${TARGETPLATFORM}", False)],
)
def test_a_last_stage_for_another_platform_is_refused(configure: Configure, platform: str, is_refused: bool) -> None:
    """Docker would label it linux/amd64 all the same; earlier stages may be for what they like."""
    config = configure(image={"dockerfile": "Dockerfile"})
    stages = f"FROM --platform=linux/arm64 a AS b\nFROM --platform={platform} c\n"
    (config.directory / "Dockerfile").write_text(stages)

    if is_refused:
        with pytest.raises(ConfigError, match="the tasks need linux/amd64"):
            build_context(config, SERVICE)
    else:
        assert "Dockerfile" in paths(build_context(config, SERVICE))


def test_the_target_is_the_stage_of_the_servers_own_dockerfile(configure: Configure) -> None:
    """What `image.target` names is built and is part of the image's identity."""
    config = configure()
    image = config.services[SERVICE].image.model_copy(update={"target": "gpu"})
    service = config.services[SERVICE].model_copy(update={"image": image})
    cpu, gpu = (build_context(c, SERVICE) for c in (config, config.model_copy(update={"services": {SERVICE: service}})))

    assert ("cpu", "gpu") == (cpu.stage, gpu.stage)
    assert cpu.digest != gpu.digest


def test_of_a_dockerfile_of_ones_own_the_last_stage_is_built(configure: Configure) -> None:
    """As `docker build` does: it need not know our stages' names."""
    config = configure(image={"dockerfile": "Dockerfile"})
    (config.directory / "Dockerfile").write_text("FROM scratch\n")

    assert build_context(config, SERVICE).stage is None


IMAGE = docker.ImageBuild(Path("/c"), Path("/c/Dockerfile"), "r:t", {"BASE": "python"}, ("--network", "host"), "gpu")
IMAGE_WORDS = [
    *("--platform", "linux/amd64", "--target", "gpu", "--build-arg", "BASE=python", "--network", "host"),
    *("--progress", "plain", "--file", "/c/Dockerfile", "--tag", "r:t"),
]


def test_buildx_makes_one_amd64_manifest() -> None:
    """No attestations: an index would have a digest of its own."""
    command = docker.buildx_command(IMAGE, Path("/m.json"))

    without_attestations = ["--provenance=false", "--sbom=false"]
    pushed = ["--push", "--metadata-file", "/m.json"]
    assert ["docker", "buildx", "build", *without_attestations, *IMAGE_WORDS, *pushed, "/c"] == command


def test_a_docker_without_buildx_builds_then_pushes() -> None:
    """Two commands instead of one, told the same; the digest stands at the end of what the push says."""
    build, push = docker.buildkit_commands(IMAGE)
    said = ["5f70bf18a086: Layer already exists", f"t: digest: sha256:{'a' * 64} size: 943"]

    assert ["docker", "build", *IMAGE_WORDS, "/c"] == build
    assert ["docker", "push", "r:t"] == push
    assert (f"sha256:{'a' * 64}", "") == (docker.pushed_digest(said), docker.pushed_digest(["denied"]))


@pytest.mark.parametrize(
    ("version", "has_buildkit"),
    [("18.09.1", False), ("20.10.24+dfsg1", True), ("22.06.0-beta", True), ("23.0.0", False), ("dev", False)],
)
def test_only_clients_before_23_have_buildkit_inside(version: str, has_buildkit: bool) -> None:
    """Later ones reach BuildKit through buildx alone."""
    assert has_buildkit == docker.Installed(version, has_buildx=False).has_buildkit_inside


def test_a_docker_that_cannot_build_is_refused_with_the_packages_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of today without buildx: its classic builder, which knows no `RUN --mount`, is not tried."""
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\nif [ "$1" = version ]; then echo 28.2.2; else exit 1; fi\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match=r"Docker 28\.2\.2 has no buildx") as caught:
        docker.require_docker()

    assert "docker-buildx-plugin" in caught.value.remedy


def test_a_login_is_asked_of_no_credential_store() -> None:
    """The user's settings stay as they are but for this registry, which no helper is asked for."""
    own = {"credsStore": "desktop", "currentContext": "mine", "auths": {"a": {}}, "credHelpers": {"b": "c"}}

    settings = docker_settings.with_login(own, "127.0.0.1:5000", "AWS", "secret")

    assert {"auths", "credHelpers"} == {key for key in settings if settings[key] != own[key]}
    assert {"a": {}, "127.0.0.1:5000": {"auth": "QVdTOnNlY3JldA=="}} == settings["auths"]
    assert {"b": "c", "127.0.0.1:5000": ""} == settings["credHelpers"]


def test_the_login_lasts_as_long_as_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker finds the user's plugins and contexts beside the login; afterwards only the user's own are there."""
    own = tmp_path / "own"
    (own / "cli-plugins").mkdir(parents=True)
    (own / "config.json").write_text('{"auths": {}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(own))

    with docker_settings.signed_in("127.0.0.1:5000", "AWS", "secret") as environment:
        during = Path(environment["DOCKER_CONFIG"])
        beside = (during / "cli-plugins").resolve()
        mode = during.stat().st_mode & 0o777

    assert (own / "cli-plugins", 0o700) == (beside, mode)
    assert (False, '{"auths": {}}') == (during.exists(), (own / "config.json").read_text())


def test_broken_docker_settings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's own message would not say which file."""
    (tmp_path / "config.json").write_text("{")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    with pytest.raises(ConfigError, match=r"config\.json are not valid JSON"), docker_settings.signed_in("r", "u", "p"):
        pass


def test_what_the_machines_network_needs_comes_from_the_environment(tmp_path: Path) -> None:
    """Two optional secrets and the network; a variable that names no file is an error that names the variable."""
    authority = tmp_path / "ca.crt"
    authority.write_text("x")
    given = {"ONNXSHIP_BUILD_CA": str(authority), "ONNXSHIP_BUILD_NETWORK": "host", "ONNXSHIP_BUILD_PIP_CONFIG": ""}

    options = docker_settings.machine_options(given)

    assert ("--secret", f"id=ca,src={authority}", "--network", "host") == options
    with pytest.raises(ConfigError, match="ONNXSHIP_BUILD_PIP_CONFIG names /nowhere"):
        docker_settings.machine_options({"ONNXSHIP_BUILD_PIP_CONFIG": "/nowhere"})


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

"""Images: found again by commit and by content, refused for the wrong platform, pushed to a real registry."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.aws import ecr, oci_registry
from pipeline.aws.cloudformation import outputs
from pipeline.building import oci
from pipeline.config import Config, Gate
from pipeline.errors import AwsError, ConfigError, GateRefused, UsageError
from pipeline.results import Built
from pipeline.stages.build import build
from tests.pipeline.conftest import SERVICE, Cloud


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    """A committed project with its registry."""
    git(cloud.config.directory, "init", "-q")
    commit(cloud.config.directory)
    cloud.make_registry()
    return cloud


def git(directory: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", str(directory), *words], check=True, capture_output=True)


def commit(directory: Path) -> None:
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "x")


def built(cloud: Cloud, config: Config | None = None, **options: object) -> Built:
    options = {"service": SERVICE, "on_progress": cloud.lines.append} | options
    return build(config or cloud.config, cloud.aws, cloud.clock, **options)  # type: ignore[arg-type]


def tags(cloud: Cloud, digest: str) -> set[str]:
    name = outputs(cloud.aws, cloud.config.stack_name("registry"))["RepositoryName"]
    described = cloud.aws.call("ecr", "describe_images", repositoryName=name, imageIds=[{"imageDigest": digest}])
    return set(described["imageDetails"][0]["imageTags"])


def test_an_image_is_pushed_under_commit_and_content(ready: Cloud) -> None:
    """The image has a tag with the full commit and one with the content alone; both name the target."""
    image = built(ready)

    short = image.context_digest[:12]
    assert image.reused is False
    assert len(image.git_sha) == 40
    assert tags(ready, image.image_digest) == {f"{image.git_sha}-cpu-{short}", f"content-cpu-{short}"}


def test_the_same_commit_is_not_built_twice(ready: Cloud) -> None:
    """An existing tag is reused."""
    first, second = built(ready), built(ready)

    assert (second.reused, second.image_digest) == (True, first.image_digest)


def test_the_same_content_of_another_commit_is_reused(ready: Cloud) -> None:
    """A commit that changes nothing in the image gives the image another tag, and builds nothing."""
    first = built(ready)
    (ready.config.directory / "README.md").write_text("words")
    commit(ready.config.directory)

    second = built(ready)

    assert second.git_sha != first.git_sha
    assert (second.reused, second.image_digest) == (True, first.image_digest)
    assert {first.tag, second.tag} < tags(ready, first.image_digest)


def test_the_gates_image_is_built_beside_it_and_found_again(ready: Cloud) -> None:
    """`loadtests` under its content's own tag, whatever the commit; a gate on the runner needs none."""
    first, second = built(ready), built(ready)
    service = ready.config.services[SERVICE]
    runner = service.model_copy(update={"gate": Gate.model_validate({"from": "runner"})})
    without = built(ready, ready.config.model_copy(update={"services": {SERVICE: runner}}))

    name = outputs(ready.aws, ready.config.stack_name("registry"))["RepositoryName"]
    digest = ecr.digest_of_tag(ready.aws, name, first.gate_tag)
    manifest = ecr.get_manifest(ready.aws, name, str(digest))
    assert digest not in (None, first.image_digest)
    assert ("linux/amd64",) == ecr.platforms(ready.aws, name, manifest)
    assert (first.gate_tag, "") == (second.gate_tag, without.gate_tag)
    assert f"an image with this content is there: {first.gate_tag} ({digest})" in ready.lines


def test_uncommitted_code_is_refused_by_name(ready: Cloud) -> None:
    """A changed service.py could not be found again: the error names it."""
    (ready.config.directory / "service.py").write_text("def startup(): ...\n")

    with pytest.raises(ConfigError) as caught:
        built(ready)

    assert caught.value.details == ("service.py",)


def test_an_allowed_dirty_tree_says_so_in_its_tag(ready: Cloud) -> None:
    """With allow_dirty the tag ends in -dirty."""
    (ready.config.directory / "service.py").write_text("def startup(): ...\n")

    assert built(ready, allow_dirty=True).tag.endswith("-dirty")


def test_files_that_are_not_in_the_release_do_not_matter(ready: Cloud) -> None:
    """An untracked notebook beside the project does not make the release dirty."""
    (ready.config.directory / "notebook.ipynb").write_text("{}")

    assert not built(ready).tag.endswith("-dirty")


def test_no_repository_is_dirty_unless_the_commit_is_given(cloud: Cloud) -> None:
    """A source archive has no .git; CI hands over the commit that it stands for."""
    cloud.make_registry()

    with pytest.raises(ConfigError, match="there is no git commit"):
        built(cloud)

    assert built(cloud, git_sha="a" * 40).tag.startswith("a" * 40 + "-cpu-")


def test_a_dry_run_builds_nothing(ready: Cloud) -> None:
    """A dry run says what it would push, and no image is there afterwards."""
    image = built(ready, dry_run=True)

    assert (image.image_digest, image.reused) == ("", False)
    assert "would build and push" in ready.lines[-1]
    assert built(ready).reused is False


def test_requirements_that_this_machine_lacks_are_refused(ready: Cloud) -> None:
    """The layers builder installs nothing: every line that is not satisfied here is named before anything is pushed."""
    (ready.config.directory / "requirements.txt").write_text(
        "numpy==1.0.0\nno-such-package  # ours\n-r more.txt\n--index-url https://example.com\nnumpy>=2 \\\n  --hash=x\n"
    )

    with pytest.raises(ConfigError, match="runs with this machine's packages") as caught:
        built(ready, allow_dirty=True)

    assert caught.value.details == (
        f"numpy==1.0.0 is not what is installed ({np.__version__})",
        "no-such-package is not installed",
        "`-r more.txt` is not a requirement that can be checked",
    )
    assert "pip install -r requirements.txt" in caught.value.remedy


def test_the_packages_that_layers_do_not_hold_are_named_aloud(ready: Cloud) -> None:
    """A warning says what the tasks will run with, also when the image is there already; markers are obeyed."""
    (ready.config.directory / "requirements.txt").write_text("numpy>=2\ntorch; python_version < '3'\n")
    first = built(ready, allow_dirty=True)
    ready.lines.clear()

    assert (False, True) == (first.reused, built(ready, allow_dirty=True).reused)
    words = "the `layers` builder installs nothing of requirements.txt; the tasks use this machine's packages"
    assert f"WARNING: {words}: numpy {np.__version__}" == ready.lines[0]


def test_without_a_registry_the_remedy_is_bootstrap(cloud: Cloud) -> None:
    """No registry stack: the error names the command that makes it."""
    with pytest.raises(UsageError, match="onnxship bootstrap"):
        built(cloud, git_sha="a" * 40)


def test_another_platform_is_refused(ready: Cloud) -> None:
    """An arm64 image under the release's tag is refused before anything is deployed."""
    push_for(ready, "arm64", built(ready, dry_run=True).tag)

    with pytest.raises(GateRefused, match=r"is for linux/arm64; the tasks need linux/amd64"):
        built(ready)


def push_for(cloud: Cloud, architecture: str, tag: str) -> None:
    image = oci.oci_image([])
    config = oci.Blob(json.dumps(json.loads(image.config.content) | {"architecture": architecture}).encode())
    manifest = json.loads(image.manifest.content)
    manifest["config"] |= {"digest": config.digest, "size": len(config.content)}
    repository = outputs(cloud.aws, cloud.config.stack_name("registry"))["RepositoryName"]
    blob = oci.Blob(json.dumps(manifest).encode())
    oci_registry.push(ecr.registry(cloud.aws), repository, (image.layer, config), blob, oci.MANIFEST_TYPE, tag)


def test_an_index_is_read_through(ready: Cloud) -> None:
    """Of an image index the platforms are those of its entries; attestations are none."""
    entries = [("linux", "arm64"), ("linux", "amd64"), ("unknown", "unknown")]
    manifests = [{"platform": {"os": system, "architecture": arch}} for system, arch in entries]
    index = ecr.Manifest("sha256:0", ecr.INDEX_TYPES[0], json.dumps({"manifests": manifests}))

    assert ecr.platforms(ready.aws, "any", index) == ("linux/arm64", "linux/amd64")


def test_no_docker_says_what_to_do(ready: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The docker builder on a machine without Docker names the installation and the rehearsal."""
    service = ready.config.services[SERVICE]
    image = service.image.model_copy(update={"builder": "docker"})
    config = ready.config.model_copy(update={"services": {SERVICE: service.model_copy(update={"image": image})}})
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    with pytest.raises(ConfigError, match="not installed") as caught:
        built(ready, config, allow_dirty=True)

    assert "onnxship rehearse ship" in caught.value.remedy


def test_layers_go_to_this_machine_only() -> None:
    """An image without a base is never pushed to a real registry."""
    registry = oci_registry.Registry("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com", "AWS", "secret")

    with pytest.raises(ConfigError, match="only a registry on this machine takes it") as caught:
        oci_registry.refuse_remote(registry)

    assert caught.value.remedy == "set services.<name>.image.builder: docker"
    assert "secret" not in repr(registry)


def test_a_wrong_password_is_awss_refusal(ready: Cloud) -> None:
    """The registry's answer is shown with its status."""
    login = replace(ecr.registry(ready.aws), password="wrong")
    image = oci.oci_image([])

    with pytest.raises(AwsError, match="HTTP 401"):
        oci_registry.push(login, "any", (image.layer,), image.manifest, oci.MANIFEST_TYPE, "t")

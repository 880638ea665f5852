"""`onnxship build`: one linux/amd64 image in ECR, found again by its commit and by its content.

Tags: `<git sha>-<target>-<12 hex of the context's digest>`, with `-dirty` when the tree is not committed, and
`content-<target>-<12 hex>`. An image with the same content is never built twice. A gate in the VPC (`gate.from: vpc`)
has an image of its own, `loadtests-<12 hex>`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import stacks
from pipeline.aws import ecr, oci_registry
from pipeline.aws.session import Aws
from pipeline.building import docker, docker_settings, gate_image, git
from pipeline.building.context import USER_REQUIREMENTS, BuildContext, build_context
from pipeline.building.oci import MANIFEST_TYPE, oci_image
from pipeline.building.requirements import check_installed
from pipeline.config import Config
from pipeline.errors import GateRefused, StateUnknown
from pipeline.results import Built
from pipeline.waiting import Clock

BOOTSTRAP_FIRST = "run `onnxship bootstrap` first: it makes the repository that images are pushed to"


@dataclass(frozen=True, slots=True)
class Repository:
    """The environment's ECR repository."""

    aws: Aws
    name: str
    uri: str
    on_progress: Callable[[str], None]


def build(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    service: str,
    git_sha: str | None = None,
    allow_dirty: bool = False,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Built:
    """Build and push the service's image, or find the one that is there already.

    `git_sha` stands for the commit where there is no repository (a source archive in CI). Raises ConfigError for an
    uncommitted tree unless `allow_dirty` and for requirements that the `layers` builder does not find on this machine,
    GateRefused for an image that is not linux/amd64, new or found. With `dry_run` nothing is built or tagged;
    `image_digest` is empty when there is no such image yet.
    """
    del clock  # every stage is called alike; nothing here waits
    context = build_context(config, service)
    if context.builder == "layers":
        _check_requirements(context, on_progress)
    identity = git.identify(config.directory, _release_paths(config, service, context), sha=git_sha)
    if not allow_dirty:
        git.refuse_dirty(identity)
    outputs = stacks.required_outputs(aws, config.stack_name("registry"), BOOTSTRAP_FIRST)
    repository = Repository(aws, outputs["RepositoryName"], outputs["RepositoryUri"], on_progress)
    tag = f"{identity.sha}-{context.target}-{context.digest[:12]}{'-dirty' if identity.is_dirty else ''}"
    content_tag = f"content-{context.target}-{context.digest[:12]}"
    digest, is_reused = _image(context, repository, (tag, content_tag), dry_run=dry_run)
    gate_tag = _gate_image(config, service, repository, dry_run=dry_run)
    return Built(
        repository_uri=repository.uri,
        tag=tag,
        image_digest=digest,
        context_digest=context.digest,
        git_sha=identity.sha,
        target=context.target,
        builder=context.builder,
        reused=is_reused,
        gate_tag=gate_tag,
    )


def _image(
    context: BuildContext, repository: Repository, tags: tuple[str, ...], *, dry_run: bool
) -> tuple[str, bool]:  # fmt: skip
    """The image's digest ("" when only a dry run asks), and whether it was there before. It has all of `tags` then."""
    digest = _present(repository, tags)
    is_reused = digest is not None
    if dry_run:
        repository.on_progress(f"{'would reuse' if is_reused else 'would build and push'} {repository.uri}:{tags[0]}")
    else:
        digest = digest or _build_and_push(context, repository, tags[0])
        _tag(repository, digest, tags)
    return digest or "", is_reused


def _gate_image(config: Config, service: str, repository: Repository, *, dry_run: bool) -> str:
    """The tag of the image that the gate's tasks run, which is in ECR then; "" when the gate needs none."""
    if config.services[service].gate.from_ != "vpc":
        return ""
    context = gate_image.gate_context(config, service)
    tag = gate_image.gate_tag(context)
    _image(context, repository, (tag,), dry_run=dry_run)
    return tag


def _release_paths(config: Config, service: str, context: BuildContext) -> list[Path]:
    """The user's files that the release consists of: a change anywhere else does not matter to it."""
    model = config.services[service].model
    return [*context.user_paths, config.path.resolve(), config.file(model.path), config.file(model.golden)]


def _present(repository: Repository, tags: tuple[str, ...]) -> str | None:
    """The digest of the first of `tags` that ECR has, once it is known to be a linux/amd64 image."""
    for tag in tags:
        digest = ecr.digest_of_tag(repository.aws, repository.name, tag)
        if digest:
            _refuse_other_platforms(repository, digest)
            repository.on_progress(f"an image with this content is there: {tag} ({digest})")
            return digest
    return None


def _build_and_push(context: BuildContext, repository: Repository, tag: str) -> str:
    """The digest of the new image, which ECR has now and which is linux/amd64."""
    login = ecr.registry(repository.aws)
    push = _push_layers if context.builder == "layers" else _push_docker
    pushed = push(context, repository, login, tag)
    digest = ecr.digest_of_tag(repository.aws, repository.name, tag)
    if digest is None or pushed != digest:
        raise StateUnknown(
            f"{repository.uri}:{tag} is {digest or 'absent'} in ECR, but {pushed or 'an image'} was pushed.",
            "run `onnxship build` again",
        )
    try:
        _refuse_other_platforms(repository, digest)
    except GateRefused:
        ecr.delete_image(repository.aws, repository.name, digest)
        raise
    repository.on_progress(f"pushed {repository.uri}:{tag} ({digest})")
    return digest


def _check_requirements(context: BuildContext, on_progress: Callable[[str], None]) -> None:
    """Say which packages the tasks will have; an image that is reused has this machine's just as well."""
    for file in context.files:
        if file.path == USER_REQUIREMENTS:
            packages = ", ".join(check_installed(file.content.decode(errors="replace"))) or "none"
            on_progress(
                "WARNING: the `layers` builder installs nothing of requirements.txt; the tasks use this machine's "
                f"packages: {packages}"
            )


def _push_layers(context: BuildContext, repository: Repository, login: oci_registry.Registry, tag: str) -> str:
    oci_registry.refuse_remote(login)
    image = oci_image(context.files, context.command)
    repository.on_progress(f"{len(context.files)} files in one layer of {len(image.layer.content)} bytes")
    oci_registry.push(login, repository.name, (image.layer, image.config), image.manifest, MANIFEST_TYPE, tag)
    return image.manifest.digest


def _push_docker(context: BuildContext, repository: Repository, login: oci_registry.Registry, tag: str) -> str:
    installed = docker.require_docker()
    options = docker_settings.machine_options(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="onnxship-build-") as scratch,
        docker_settings.signed_in(login.host, login.user, login.password) as environment,
    ):
        directory = context.directory or Path(scratch)
        if context.directory is None:
            context.write_to(directory)
        reference, dockerfile = f"{repository.uri}:{tag}", directory / context.dockerfile
        image = docker.ImageBuild(directory, dockerfile, reference, context.arguments, options, context.stage)
        return docker.build_and_push(image, installed, environment, repository.on_progress)


def _tag(repository: Repository, digest: str, tags: tuple[str, ...]) -> None:
    missing = [tag for tag in tags if ecr.digest_of_tag(repository.aws, repository.name, tag) is None]
    if missing:
        manifest = ecr.get_manifest(repository.aws, repository.name, digest)
        for tag in missing:
            ecr.put_tag(repository.aws, repository.name, manifest, tag)


def _refuse_other_platforms(repository: Repository, digest: str) -> None:
    """Raise GateRefused for an image that Fargate's X86_64 cannot start ("exec format error")."""
    manifest = ecr.get_manifest(repository.aws, repository.name, digest)
    found = ecr.platforms(repository.aws, repository.name, manifest)
    if docker.PLATFORM not in found:
        raise GateRefused(
            f"The image {digest} is for {', '.join(found) or 'no platform'}; the tasks need {docker.PLATFORM}.",
            "delete it (`aws ecr batch-delete-image`) and run `onnxship build`; push nothing else under its tags",
        )

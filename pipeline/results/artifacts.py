"""What a release is made of: its image and its model."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.results.gates import Quality


@dataclass(frozen=True, slots=True)
class Built:
    """An image in ECR. `image_digest` is the sha256 of its one manifest (linux/amd64); `gate_tag` names the gate's own
    image, "" when its requests come from this machine."""

    repository_uri: str
    tag: str
    image_digest: str
    context_digest: str
    git_sha: str
    target: str
    builder: str
    reused: bool
    gate_tag: str = ""

    @property
    def image(self) -> str:
        """The image by digest, as the task definition names it."""
        return f"{self.repository_uri}@{self.image_digest}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output in the Open Inference Protocol's words; -1 is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What an ONNX file says of itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ir_version: int
    opset: int


@dataclass(frozen=True, slots=True)
class Published:
    """A model in S3, pinned: bucket, key, VersionId and sha256 of the manifest that pins all else."""

    bucket: str
    manifest_key: str
    manifest_version_id: str
    manifest_sha256: str
    model_sha256: str
    model_bytes: int
    ir_version: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quality: Quality | None
    reused: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in a repository of the server's. `version` is what the server calls it; `removed` are the files that
    neither this manifest nor the one before needs any more."""

    manifest: str
    version: str
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quality: Quality | None
    reused: bool
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Initialised:
    """The files that `init` wrote, and what to type next."""

    config: str
    golden: str
    rows: int
    labelled: bool
    quality: Quality | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    next_commands: tuple[str, ...]

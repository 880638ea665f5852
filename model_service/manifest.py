"""The model manifest: which files make up a model, with their digests, and how /predict reads its tensors."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from model_service.errors import StartRefused
from model_service.images.recipe import Preprocessing

FORMAT = "onnxship.model/1"

# One flat file name: a directory in it, or a name that begins with a dot, could leave the model's own directory.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\Z", max_length=255)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ModelFile(msgspec.Struct, frozen=True):
    """One file, pinned. `key` and `version_id` say where it lies in S3."""

    name: FileName
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=0)]
    key: str = ""
    version_id: str = ""


class PredictNames(msgspec.Struct, frozen=True):
    """The tensors that /predict uses, and how; what is not named is worked out from the model's signature.

    `labels` are the classes' names in the order of the probabilities, or the name of the file that holds them.
    """

    input: str | None = None
    label: str | None = None
    probabilities: str | None = None
    activation: Literal["softmax", "none"] | None = None
    labels: list[str] | FileName | None = None
    preprocessing: Preprocessing | None = None


class Batching(msgspec.Struct, frozen=True):
    """How requests are put together; what is left out is measured when the model is loaded.

    `max_batch` rows go into one run at most (1: none are put together); `window_us` is how long a free slot waits for
    more; runs are padded to the row counts in `buckets`, with repeats of the last row.
    """

    max_batch: Annotated[int, Meta(ge=0, le=65536)] = 0
    window_us: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    buckets: list[Annotated[int, Meta(ge=1, le=65536)]] = []


class Manifest(msgspec.Struct, frozen=True):
    """What the service needs of a manifest; members for other readers are ignored."""

    format: str
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
    files: Annotated[list[ModelFile], Meta(min_length=1)]
    golden: ModelFile | None = None
    predict: PredictNames | None = None
    batching: Batching | None = None
    platform: str = "onnx_onnxv1"

    def all_files(self) -> list[ModelFile]:
        """The model's files, its .onnx first, and the golden inputs last."""
        return [*self.files, *([self.golden] if self.golden else [])]


MANIFEST_DECODER = msgspec.json.Decoder(Manifest)  # when this is imported: see inference/protocol.py


def read_manifest(content: bytes) -> Manifest:
    """The manifest in `content`, which must have been verified before. Raises StartRefused with the faulty member."""
    try:
        manifest = MANIFEST_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartRefused(f"the model manifest cannot be used: {error}") from error
    if manifest.format != FORMAT:
        raise StartRefused(f"the model manifest has format {manifest.format!r}; this service reads {FORMAT!r}")
    _check_members(content)
    names = [file.name for file in manifest.all_files()]
    if len(set(names)) != len(names):
        raise StartRefused(f"the model manifest names a file twice: {', '.join(names)}")
    return manifest


def _check_members(content: bytes) -> None:
    """Raise StartRefused for a member that nobody reads, where one that is left out would change the answers."""
    given = msgspec.json.decode(content)
    for section, kind in (("predict", PredictNames), ("batching", Batching)):
        known = kind.__struct_fields__
        for name in given.get(section) or {}:
            if name not in known:
                close = get_close_matches(name, known, 1)
                words = f"did you mean `{close[0]}`?" if close else f"it may have {', '.join(known)}"
                raise StartRefused(f"the model manifest's {section} has an unknown member `{name}`: {words}")

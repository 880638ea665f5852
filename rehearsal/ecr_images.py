"""Images as ECR knows them: named by the sha256 of their manifest, with true sizes, tags that may be immutable.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImage.html
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from moto.ecr.models import Image, Repository

from rehearsal.blobs import Blobs
from rehearsal.refusals import Refused
from rehearsal.scans import Scan

INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}


def digest_of(manifest: str) -> str:
    """The image's digest: that of its manifest's bytes."""
    return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"


class StoredImage(Image):  # type: ignore[misc]
    """One manifest of a repository; moto finds it by its digest and its tags."""

    def __init__(self, repository: Repository, manifest: str, media_type: str) -> None:
        super().__init__(repository.registry_id, None, manifest, repository.name, media_type, digest_of(manifest))
        self.content: dict[str, Any] = json.loads(manifest)
        self.pushed_at = datetime.now(UTC)
        self.scan: Scan | None = None

    @property
    def is_index(self) -> bool:
        """True for a list of images of several platforms."""
        return self.image_manifest_media_type in INDEXES

    def untag(self, tag: str) -> None:
        """Take one tag off."""
        self.image_tags.remove(tag)
        self.image_tag = self.image_tags[-1] if self.image_tags else None

    def image_ids(self) -> list[dict[str, str]]:
        """The image by digest and each of its tags."""
        digest = {"imageDigest": self.image_digest}
        return [{**digest, "imageTag": tag} for tag in self.image_tags] or [digest]


def read_manifest(manifest: str, media_type: str | None) -> str:
    """The manifest's media type, said by the caller or by itself; an unreadable manifest is refused."""
    try:
        content = json.loads(manifest)
    except json.JSONDecodeError as error:
        raise Refused("InvalidParameterException", f"The manifest is not JSON: {error}") from error
    known = media_type or (content.get("mediaType") if isinstance(content, dict) else None)
    if not isinstance(content, dict) or not known:
        raise Refused("InvalidParameterException", "The manifest does not say its media type.")
    return str(known)


def require_parts(repository: Repository, image: StoredImage, blobs: Blobs) -> None:
    """Refuse a manifest whose layers (or, in an index, images) the repository does not have."""
    if image.is_index:
        known = {stored.image_digest for stored in repository.images}
        missing = [part["digest"] for part in image.content["manifests"] if part["digest"] not in known]
        code = "ReferencedImagesNotFoundException"
    else:
        parts = [image.content["config"], *image.content["layers"]]
        missing = [part["digest"] for part in parts if blobs.size_bytes(repository.name, part["digest"]) is None]
        code = "LayersNotFoundException"
    if missing:
        raise Refused(code, f"The repository '{repository.name}' does not have: {', '.join(missing)}")


def store(repository: Repository, image: StoredImage, tag: str | None) -> tuple[StoredImage, bool]:
    """Put an image under a tag. Gives the stored image, and whether it is new.

    A tag that moves leaves its former image untagged. An immutable tag is refused even for the same digest, as
    https://github.com/aws/containers-roadmap/issues/2179 reports of ECR.
    """
    known = next((stored for stored in repository.images if stored.image_digest == image.image_digest), None)
    holder = next((stored for stored in repository.images if tag and tag in stored.image_tags), None)
    if holder and tag and is_immutable(repository, tag):
        raise Refused(
            "ImageTagAlreadyExistsException",
            f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot be overwritten"
            " because the tag is immutable.",
        )
    if known and (tag is None or holder is known):
        raise Refused(
            "ImageAlreadyExistsException",
            f"Image with digest '{image.image_digest}' and tag '{tag}' already exists in the repository with name"
            f" '{repository.name}' in registry with id '{repository.registry_id}'",
        )
    if holder:
        holder.untag(tag)
    stored = known or image
    if not known:
        repository.images.append(image)
    if tag:
        stored.update_tag(tag)
    return stored, known is None


def is_immutable(repository: Repository, tag: str) -> bool:
    """Whether a tag may never move: the repository's rule, turned round by its exclusion filters."""
    excluded = any(
        fnmatch.fnmatchcase(tag, rule["filter"]) for rule in repository.image_tag_mutability_exclusion_filters or []
    )
    return bool(repository.is_tag_immutable()) is not excluded


def size_bytes(repository: Repository, image: StoredImage) -> int:
    """Configuration and layers together; of an index, the largest image it lists."""
    if image.is_index:
        listed = {part["digest"] for part in image.content["manifests"]}
        return max(
            (size_bytes(repository, stored) for stored in repository.images if stored.image_digest in listed), default=0
        )
    return sum(part["size"] for part in [image.content["config"], *image.content["layers"]])


def remove(repository: Repository, image_id: dict[str, str]) -> list[dict[str, str]]:
    """Delete by digest (the image with all its tags) or by tag (the last tag takes the image along).

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html
    """
    image = repository._get_image(image_id.get("imageTag"), image_id.get("imageDigest"))
    if "imageDigest" in image_id or image.image_tags == [image_id["imageTag"]]:
        repository.images.remove(image)
        return image.image_ids()  # type: ignore[no-any-return]
    image.untag(image_id["imageTag"])
    return [{"imageDigest": image.image_digest, "imageTag": image_id["imageTag"]}]

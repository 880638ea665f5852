"""ECR as its documentation describes it, on top of moto's repositories: digests, tags, bytes, scans, one registry."""

from __future__ import annotations

import threading
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, ClassVar

import moto.ecr.urls
from moto.core.responses import ActionResult
from moto.ecr.models import Repository
from moto.ecr.responses import ECRResponse

from rehearsal.blobs import Blobs
from rehearsal.context import Context
from rehearsal.ecr_images import StoredImage, digest_of, read_manifest, remove, require_parts, size_bytes, store
from rehearsal.refusals import Refused
from rehearsal.registry import Passes, Registry
from rehearsal.scans import Scan, Scans

PAGE = 100


class Ecr:
    """The part that owns images: ECR's API in front of moto, and the registry beside it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.blobs = Blobs(context.settings.state_dir / "registry")
        self.passes = Passes()
        self.scans = Scans()
        self.lock = threading.RLock()
        self.registry = Registry(context, self.blobs, self.passes)

    def install(self) -> None:
        """Answer ECR's API in moto's stead."""
        self.blobs.clear()
        front = type("EcrFront", (EcrFront,), {"part": self})
        moto.ecr.urls.url_paths["{0}/$"] = front.dispatch

    async def start(self) -> None:
        """Open the registry."""
        await self.registry.start()

    async def stop(self) -> None:
        """Close the registry."""
        await self.registry.stop()


class EcrFront(ECRResponse):  # type: ignore[misc]
    """The actions whose answers moto does not get right."""

    part: ClassVar[Ecr]

    def create_repository(self) -> ActionResult:
        answer = super().create_repository()
        repository = answer.result["repository"]
        repository.uri = f"{self.part.context.registry}/{repository.name}"
        return answer

    def delete_repository(self) -> ActionResult:
        answer = super().delete_repository()
        self.part.blobs.delete_repository(self._get_param("repositoryName"))
        return answer

    def get_authorization_token(self) -> ActionResult:
        password, expires = self.part.passes.issue()
        data = {
            "authorizationToken": b64encode(f"AWS:{password}".encode()).decode(),
            "expiresAt": datetime.fromtimestamp(expires, UTC),
            "proxyEndpoint": f"http://{self.part.context.registry}",
        }
        return ActionResult({"authorizationData": [data]})

    def put_image(self) -> ActionResult:
        repository, manifest, tag = self._repository(), self._get_param("imageManifest"), self._get_param("imageTag")
        media_type = read_manifest(manifest, self._get_param("imageManifestMediaType"))
        if self._get_param("imageDigest", digest_of(manifest)) != digest_of(manifest):
            raise Refused("ImageDigestDoesNotMatchException", f"The manifest's digest is {digest_of(manifest)}.")
        image = StoredImage(repository, manifest, media_type)
        with self.part.lock:
            require_parts(repository, image, self.part.blobs)
            image, is_new = store(repository, image, tag)
            if is_new:
                self.part.scans.bind_next(repository.name, image.image_digest)
            if is_new and self._scans_on_push(repository) and not image.is_index:
                image.scan = Scan(self._is_enhanced)
        return ActionResult({"image": self._whole(image, {"imageTag": tag} if tag else {})})

    def describe_images(self) -> ActionResult:
        repository, wanted = self._repository(), self._get_param("imageIds")
        if wanted:
            images = [repository._get_image(which.get("imageTag"), which.get("imageDigest")) for which in wanted]
        else:
            images = self._with_tag_status(repository.images)
        page, following = self._page(images)
        return ActionResult({"imageDetails": [self._detail(repository, image) for image in page], **following})

    def list_images(self) -> ActionResult:
        images = self._with_tag_status(self._repository().images)
        page, following = self._page([image_id for image in images for image_id in image.image_ids()])
        return ActionResult({"imageIds": page, **following})

    def batch_get_image(self) -> ActionResult:
        repository = self._repository()
        images, failures = [], []
        for wanted in self._get_param("imageIds"):
            image = _find(repository, wanted)
            if image:
                images.append(self._whole(image, wanted))
            else:
                failures.append(_failure(wanted, "ImageNotFound", "Requested image not found"))
        return ActionResult({"images": images, "failures": failures})

    def batch_delete_image(self) -> ActionResult:
        repository = self._repository()
        removed: list[dict[str, str]] = []
        failures = []
        with self.part.lock:
            for wanted in self._get_param("imageIds"):
                if not wanted:
                    reason = "Invalid request parameters: both tag and digest cannot be null"
                    failures.append(_failure(wanted, "MissingDigestAndTag", reason))
                elif _find(repository, wanted):
                    removed += remove(repository, wanted)
                else:
                    failures.append(_failure(wanted, "ImageNotFound", "Requested image not found"))
        return ActionResult({"imageIds": removed, "failures": failures})

    def complete_layer_upload(self) -> ActionResult:
        repository = self._repository()
        upload = repository.uploads.get(self._get_param("uploadId"))
        content = bytes(upload.layer_parts) if upload else b""
        answer = super().complete_layer_upload()
        self.part.blobs.put(repository.name, content)
        return answer

    def batch_check_layer_availability(self) -> ActionResult:
        repository = self._repository()
        layers, failures = [], []
        for digest in self._get_param("layerDigests"):
            size = self.part.blobs.size_bytes(repository.name, digest)
            if size is None:
                reason = "One or more layers could not be found in the repository"
                failures.append({"layerDigest": digest, "failureCode": "MissingLayerDigest", "failureReason": reason})
            else:
                layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size})
        return ActionResult({"layers": layers, "failures": failures})

    def get_download_url_for_layer(self) -> ActionResult:
        repository, digest = self._repository(), self._get_param("layerDigest")
        if self.part.blobs.path(repository.name, digest) is None:
            raise Refused(
                "LayersNotFoundException",
                f"The layer with digest '{digest}' does not exist in the repository with name '{repository.name}'",
            )
        path = self.part.passes.signed(f"/v2/{repository.name}/blobs/{digest}")
        return ActionResult({"downloadUrl": f"http://{self.part.context.registry}{path}", "layerDigest": digest})

    def start_image_scan(self) -> ActionResult:
        repository, image = self._repository(), self._image()
        if self._is_enhanced:
            raise Refused("ValidationException", "This feature is disabled")
        if image.is_index:
            raise Refused("UnsupportedImageTypeException", "A list of images cannot be scanned.")
        if image.scan:
            raise Refused("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")
        image.scan = Scan(enhanced=False)
        status = self._scan_answer(image)["imageScanStatus"]
        return ActionResult({**self._of(repository), "imageId": self._get_param("imageId"), "imageScanStatus": status})

    def describe_image_scan_findings(self) -> ActionResult:
        repository, image = self._repository(), self._image()
        if image.scan is None:
            raise Refused(
                "ScanNotFoundException",
                f"Image scan does not exist for the image with '{image.image_digest}' in the repository with name"
                f" '{repository.name}' in the registry with id '{repository.registry_id}'",
            )
        answer = self._scan_answer(image)
        following: dict[str, str] = {}
        for kind in {"findings", "enhancedFindings"} & set(answer.get("imageScanFindings", {})):
            page, following = self._page(answer["imageScanFindings"][kind])
            answer["imageScanFindings"] = {**answer["imageScanFindings"], kind: page}
        image_id = {"imageDigest": image.image_digest, **self._get_param("imageId")}
        return ActionResult({**self._of(repository), "imageId": image_id, **answer, **following})

    def _repository(self) -> Repository:
        return self.ecr_backend._get_repository(self._get_param("repositoryName"), self._get_param("registryId"))

    def _image(self) -> StoredImage:
        wanted = self._get_param("imageId")
        return self._repository()._get_image(wanted.get("imageTag"), wanted.get("imageDigest"))

    def _of(self, repository: Repository) -> dict[str, str]:
        return {"registryId": repository.registry_id, "repositoryName": repository.name}

    def _whole(self, image: StoredImage, wanted: dict[str, str]) -> dict[str, Any]:
        return {
            "registryId": image.registry_id,
            "repositoryName": image.repository_name,
            "imageId": {**wanted, "imageDigest": image.image_digest},
            "imageManifest": image.image_manifest,
            "imageManifestMediaType": image.image_manifest_media_type,
        }

    def _detail(self, repository: Repository, image: StoredImage) -> dict[str, Any]:
        detail = {
            **self._of(repository),
            "imageDigest": image.image_digest,
            "imageSizeInBytes": size_bytes(repository, image),
            "imagePushedAt": image.pushed_at,
            "imageManifestMediaType": image.image_manifest_media_type,
            "artifactMediaType": image.content.get("config", {}).get("mediaType"),
        }
        if image.image_tags:
            detail["imageTags"] = list(image.image_tags)
        if image.scan:
            scan = self._scan_answer(image)
            detail["imageScanStatus"] = scan["imageScanStatus"]
            if "imageScanFindings" in scan:
                detail["imageScanFindingsSummary"] = scan["imageScanFindings"]
        return detail

    def _scan_answer(self, image: StoredImage) -> dict[str, Any]:
        assert image.scan is not None
        return self.part.scans.answer(image.scan, image.repository_name, image.image_digest, image.image_tags)

    @property
    def _is_enhanced(self) -> bool:
        return bool(self.ecr_backend.registry_scanning_configuration["scanType"] == "ENHANCED")

    def _scans_on_push(self, repository: Repository) -> bool:
        by_rule = repository.scanning_config["scanFrequency"] in ("SCAN_ON_PUSH", "CONTINUOUS_SCAN")
        return by_rule or str(repository.image_scanning_configuration.get("scanOnPush")).lower() == "true"

    def _with_tag_status(self, images: list[StoredImage]) -> list[StoredImage]:
        status = (self._get_param("filter") or {}).get("tagStatus", "ANY")
        return [image for image in images if status == "ANY" or bool(image.image_tags) == (status == "TAGGED")]

    def _page(self, items: list[Any]) -> tuple[list[Any], dict[str, str]]:
        """One page of `items`, and the token of the next one if there is one."""
        begin, limit = int(self._get_param("nextToken") or 0), int(self._get_param("maxResults") or PAGE)
        end = begin + limit
        return items[begin:end], {"nextToken": str(end)} if end < len(items) else {}


def _find(repository: Repository, wanted: dict[str, str]) -> StoredImage | None:
    """The image that has every name given, or None."""
    tag, digest = wanted.get("imageTag"), wanted.get("imageDigest")
    fitting = (
        image
        for image in repository.images
        if (tag is None or tag in image.image_tags) and (digest is None or digest == image.image_digest)
    )
    return next(fitting, None)


def _failure(wanted: dict[str, str], code: str, reason: str) -> dict[str, Any]:
    return {"imageId": wanted, "failureCode": code, "failureReason": reason}

"""Amazon ECR: images by tag and digest, their platform, their scans; pure request builders above, senders below."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.aws.oci_registry import Registry
from pipeline.aws.session import Aws
from pipeline.errors import AwsError, StateUnknown
from pipeline.results import Finding

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
TIMEOUT_S = 30
# In an index an attestation is an entry for the platform unknown/unknown:
# https://docs.docker.com/build/metadata/attestations/attestation-storage/
NO_PLATFORM = "unknown/unknown"
UNKNOWN_FIX = "unknown"


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image's manifest as it was pushed."""

    digest: str
    media_type: str
    body: str

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass(frozen=True, slots=True)
class ScanReport:
    """How far ECR's scan is, and what it found so far. `completed_at` is None while it was never finished."""

    status: str
    description: str
    findings: tuple[Finding, ...]
    completed_at: datetime | None = None


def batch_get_image_request(repository: str, digest: str) -> dict[str, Any]:
    """The BatchGetImage request for one digest, whatever kind of manifest it is."""
    return {
        "repositoryName": repository,
        "imageIds": [{"imageDigest": digest}],
        "acceptedMediaTypes": [*INDEX_TYPES, *MANIFEST_TYPES],
    }


def put_tag_request(repository: str, manifest: Manifest, tag: str) -> dict[str, Any]:
    """The PutImage request that gives an image another tag."""
    return {
        "repositoryName": repository,
        "imageManifest": manifest.body,
        "imageManifestMediaType": manifest.media_type,
        "imageTag": tag,
        "imageDigest": manifest.digest,
    }


def registry(aws: Aws) -> Registry:
    """The account's registry with a token to push, valid for twelve hours."""
    data = aws.call("ecr", "get_authorization_token")["authorizationData"][0]
    user, _, password = b64decode(data["authorizationToken"]).decode().partition(":")
    return Registry(data["proxyEndpoint"], user, password)


def digest_of_tag(aws: Aws, repository: str, tag: str) -> str | None:
    """The digest that `tag` points at, or None when there is no such tag."""
    try:
        answer = aws.call("ecr", "describe_images", repositoryName=repository, imageIds=[{"imageTag": tag}])
    except AwsError as error:
        if error.code == "ImageNotFoundException":
            return None
        raise
    return str(answer["imageDetails"][0]["imageDigest"])


def get_manifest(aws: Aws, repository: str, digest: str) -> Manifest:
    """The manifest of an image, its content checked against its digest. Raises StateUnknown when it is not there."""
    answer = aws.call("ecr", "batch_get_image", **batch_get_image_request(repository, digest))
    if not answer.get("images"):
        failures = "; ".join(failure.get("failureReason", "") for failure in answer.get("failures", []))
        raise StateUnknown(f"ECR has no image {repository}@{digest}. {failures}", "run `onnxship build`")
    image = answer["images"][0]
    body = image["imageManifest"]
    if "sha256:" + hashlib.sha256(body.encode()).hexdigest() != digest:
        raise StateUnknown(
            f"ECR's manifest of {repository}@{digest} does not have that digest.", "do not release it; build again"
        )
    media_type = image.get("imageManifestMediaType") or json.loads(body).get("mediaType", "")
    return Manifest(digest, media_type, body)


def put_tag(aws: Aws, repository: str, manifest: Manifest, tag: str) -> None:
    """Give the image `tag` too; that it has it already is fine. Raises AwsError when another image holds it."""
    try:
        aws.call("ecr", "put_image", **put_tag_request(repository, manifest, tag))
    except AwsError as error:
        # https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImage.html#API_PutImage_Errors
        # An immutable repository calls a tag that is there already the second, even for the same image.
        has_it = (
            error.code == "ImageTagAlreadyExistsException" and digest_of_tag(aws, repository, tag) == manifest.digest
        )
        if error.code != "ImageAlreadyExistsException" and not has_it:
            raise


def delete_image(aws: Aws, repository: str, digest: str) -> None:
    """Delete an image with all its tags."""
    aws.call("ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageDigest": digest}])


def platforms(aws: Aws, repository: str, manifest: Manifest) -> tuple[str, ...]:
    """The platforms an image runs on, as `os/architecture`. A plain manifest says it in its configuration blob."""
    content = manifest.content
    if manifest.media_type in INDEX_TYPES:
        listed = (entry.get("platform", {}) for entry in content.get("manifests", []))
        names = (f"{p.get('os', 'unknown')}/{p.get('architecture', 'unknown')}" for p in listed)
        return tuple(name for name in names if name != NO_PLATFORM)
    config = _download_blob(aws, repository, content["config"]["digest"])
    return (f"{config.get('os', 'unknown')}/{config.get('architecture', 'unknown')}",)


def start_scan(aws: Aws, repository: str, digest: str) -> None:
    """Ask for a basic scan. Raises AwsError: LimitExceededException when it was scanned within 24 hours."""
    aws.call("ecr", "start_image_scan", repositoryName=repository, imageId={"imageDigest": digest})


def scan_report(aws: Aws, repository: str, digest: str) -> ScanReport | None:
    """Status and findings over all pages, basic and enhanced alike; None when no scan was ever begun."""
    request: dict[str, Any] = {"repositoryName": repository, "imageId": {"imageDigest": digest}}
    findings: list[Finding] = []
    while True:
        try:
            page = aws.call("ecr", "describe_image_scan_findings", **request)
        except AwsError as error:
            if error.code == "ScanNotFoundException":
                return None
            raise
        found = page.get("imageScanFindings", {})
        findings += [_basic(raw) for raw in found.get("findings", [])]
        findings += [_enhanced(raw) for raw in found.get("enhancedFindings", []) if raw.get("status") != "CLOSED"]
        if not page.get("nextToken"):
            status, ended = page.get("imageScanStatus", {}), found.get("imageScanCompletedAt")
            return ScanReport(status.get("status", ""), status.get("description", ""), tuple(findings), ended)
        request["nextToken"] = page["nextToken"]


def _basic(raw: Mapping[str, Any]) -> Finding:
    """A basic finding. It does not always say whether there is a fix: then it may have one."""
    attributes = {a["key"]: a.get("value", "") for a in raw.get("attributes", [])}
    return Finding(
        id=raw.get("name", ""),
        severity=raw.get("severity", "UNDEFINED"),
        package=" ".join(filter(None, [attributes.get("package_name"), attributes.get("package_version")])),
        fixed_in=attributes.get("fixed_in_version") or attributes.get("patched_versions") or UNKNOWN_FIX,
    )


def _enhanced(raw: Mapping[str, Any]) -> Finding:
    """An enhanced finding. `fixAvailable` is YES, NO or PARTIAL; only NO means that nothing can be done."""
    details = raw.get("packageVulnerabilityDetails", {})
    packages = details.get("vulnerablePackages", [])
    versions = [p["fixedInVersion"] for p in packages if p.get("fixedInVersion") not in (None, "", "NotAvailable")]
    fixed_in = ", ".join(dict.fromkeys(versions)) or UNKNOWN_FIX
    return Finding(
        id=details.get("vulnerabilityId") or raw.get("title", ""),
        severity=raw.get("severity", "UNDEFINED"),
        package=", ".join(f"{p.get('name', '')} {p.get('version', '')}".strip() for p in packages),
        fixed_in="" if raw.get("fixAvailable") == "NO" else fixed_in,
    )


def _download_blob(aws: Aws, repository: str, digest: str) -> dict[str, Any]:
    answer = aws.call("ecr", "get_download_url_for_layer", repositoryName=repository, layerDigest=digest)
    url = answer["downloadUrl"]
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 - the URL is ECR's own
            content = response.read()
    except (urllib.error.URLError, OSError) as error:
        raise AwsError(f"ECR's blob {digest} cannot be read: {error}", "run the same command again") from error
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise StateUnknown(f"ECR's blob {digest} does not have that digest.", "do not release it; build again")
    return dict(json.loads(content))

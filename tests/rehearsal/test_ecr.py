"""ECR: true digests, sizes and tags, and scans that take a moment."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

HIGH = {
    "findings": [{"name": "CVE-2026-0001", "severity": "HIGH", "uri": "https://example.com", "attributes": []}],
}


@pytest.fixture
def ecr(client: Callable[..., Any]) -> Any:
    return client("ecr")


@pytest.fixture
def pusher(ecr: Any, oci: SimpleNamespace) -> Any:
    return oci.Pusher(ecr)


@pytest.fixture
def repository(ecr: Any) -> str:
    name = f"r-{uuid.uuid4().hex[:8]}"
    ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
    return name


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return caught.value.response["Error"]["Code"]


def findings_of(ecr: Any, repository: str, **image_id: str) -> dict[str, Any]:
    """The findings once the scan is complete, as a pipeline waits for them."""
    deadline = time.monotonic() + 20
    while True:
        answer = ecr.describe_image_scan_findings(repositoryName=repository, imageId=image_id)
        if answer["imageScanStatus"]["status"] != "IN_PROGRESS":
            return answer
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_repositories_and_tokens_point_at_the_registry(up: dict[str, Any], ecr: Any, repository: str) -> None:
    """repositoryUri is what `docker push` takes; the token expires in twelve hours."""
    described = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]
    assert f"{up['registry']}/{repository}" == described["repositoryUri"]
    data = ecr.get_authorization_token()["authorizationData"][0]
    assert f"http://{up['registry']}" == data["proxyEndpoint"]
    assert timedelta(hours=11) < data["expiresAt"] - datetime.now(UTC) <= timedelta(hours=12)


def test_an_image_is_described_truly(ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """Digest, size, media type, tags and push time are those of what was pushed."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    image = oci.image_of({"app/app.py": "x"})
    pusher.push(repository, image, "v1")
    detail = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "v1"}])["imageDetails"][0]
    assert image.digest == detail["imageDigest"]
    assert len(image.layer) + len(image.config) == detail["imageSizeInBytes"]
    assert detail["imageManifestMediaType"] == oci.MANIFEST
    assert detail["artifactMediaType"] == "application/vnd.oci.image.config.v1+json"
    assert detail["imageTags"] == ["v1"]
    assert before <= detail["imagePushedAt"] <= datetime.now(UTC)


def test_batch_get_image_gives_the_manifest_verbatim(
    ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """The bytes of the manifest hash to the digest; unknown images are failures, not errors."""
    image = oci.image_of({"a": "1"})
    pusher.push(repository, image, "v1")
    wanted = [{"imageTag": "v1"}, {"imageTag": "v2"}]
    answer = ecr.batch_get_image(repositoryName=repository, imageIds=wanted)
    assert oci.sha256(answer["images"][0]["imageManifest"].encode()) == image.digest
    assert {"imageTag": "v1", "imageDigest": image.digest} == answer["images"][0]["imageId"]
    assert [(f["imageId"]["imageTag"], f["failureCode"]) for f in answer["failures"]] == [("v2", "ImageNotFound")]


def test_put_image_adds_a_tag_to_an_image_that_is_there(
    ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """The same manifest under another tag is the same image; under its own tag it already exists."""
    image = oci.image_of({"a": "1"})
    pusher.push(repository, image, "v1")
    manifest = image.manifest.decode()
    put = ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="release-1")
    assert image.digest == put["image"]["imageId"]["imageDigest"]
    details = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [detail["imageTags"] for detail in details] == [["v1", "release-1"]]
    with pytest.raises(ClientError) as caught:
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="v1")
    assert code_of(caught) == "ImageAlreadyExistsException"


def test_put_image_keeps_ecrs_rules(ecr: Any, pusher: Any, oci: SimpleNamespace) -> None:
    """Immutable tags, digests and layers are checked; exclusion filters make some tags mutable."""
    ecr.create_repository(
        repositoryName="rules",
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest*"}],
    )
    first, second, never = (oci.image_of({"a": text}) for text in "123")
    pusher.push("rules", first, "v1")
    pusher.push("rules", first, "latest")
    pusher.push("rules", second, "latest")
    refusals = [
        ("ImageTagAlreadyExistsException", {"imageManifest": second.manifest.decode(), "imageTag": "v1"}),
        ("LayersNotFoundException", {"imageManifest": never.manifest.decode(), "imageTag": "v3"}),
        (
            "ImageDigestDoesNotMatchException",
            {"imageManifest": second.manifest.decode(), "imageTag": "v4", "imageDigest": first.digest},
        ),
    ]
    for code, request in refusals:
        with pytest.raises(ClientError) as caught:
            ecr.put_image(repositoryName="rules", **request)
        assert code == code_of(caught)


def test_deleting_by_tag_and_by_digest(ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """A tag goes alone, the last tag takes the image along, a digest takes everything."""
    first, second = oci.image_of({"a": "1"}), oci.image_of({"a": "2"})
    pusher.push(repository, first, "v1")
    pusher.push(repository, first, "v1-again")
    pusher.push(repository, second, "v2")

    def delete(**image_id: str) -> dict[str, Any]:
        return ecr.batch_delete_image(repositoryName=repository, imageIds=[image_id])

    assert [{"imageDigest": first.digest, "imageTag": "v1"}] == delete(imageTag="v1")["imageIds"]
    assert {"v1-again", "v2"} == {image["imageTag"] for image in ecr.list_images(repositoryName=repository)["imageIds"]}
    delete(imageTag="v1-again")
    assert [second.digest] == [d["imageDigest"] for d in ecr.describe_images(repositoryName=repository)["imageDetails"]]
    assert [{"imageDigest": second.digest, "imageTag": "v2"}] == delete(imageDigest=second.digest)["imageIds"]
    assert delete(imageTag="v1")["failures"][0]["failureCode"] == "ImageNotFound"
    with pytest.raises(ClientError) as caught:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    assert code_of(caught) == "ImageNotFoundException"


def test_a_layers_url_needs_no_password_and_no_other_url_works(
    ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """GetDownloadUrlForLayer gives a signed URL: the configuration can be read to learn the architecture."""
    image = oci.image_of({"a": "1"})
    pusher.push(repository, image, "v1")
    digest = oci.sha256(image.config)
    url = ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digest)["downloadUrl"]
    assert httpx.get(url).json()["architecture"] == "amd64"
    assert httpx.get(url.replace(digest, oci.sha256(image.layer))).status_code == 401
    with pytest.raises(ClientError) as caught:
        ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=oci.sha256(b"never pushed"))
    assert code_of(caught) == "LayersNotFoundException"


def test_layers_can_be_uploaded_through_the_api(ecr: Any, repository: str, oci: SimpleNamespace) -> None:
    """InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload keep the bytes; availability is told truly."""
    blob = b"uploaded through the API"
    upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
    which = {"repositoryName": repository, "uploadId": upload}
    ecr.upload_layer_part(**which, partFirstByte=0, partLastByte=len(blob) - 1, layerPartBlob=blob)
    ecr.complete_layer_upload(**which, layerDigests=[oci.sha256(blob)])
    digests = [oci.sha256(blob), oci.sha256(b"not there")]
    answer = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=digests)
    assert [(oci.sha256(blob), len(blob))] == [(layer["layerDigest"], layer["layerSize"]) for layer in answer["layers"]]
    assert [oci.sha256(b"not there")] == [failure["layerDigest"] for failure in answer["failures"]]
    url = ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digests[0])["downloadUrl"]
    assert blob == httpx.get(url).content


def test_a_pushed_image_is_scanned_by_itself_and_is_clean(
    ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """Scan on push: in progress at first, then complete with no findings; a second scan that day is refused."""
    pusher.push(repository, oci.image_of({"a": "clean"}), "v1")
    first = ecr.describe_image_scan_findings(repositoryName=repository, imageId={"imageTag": "v1"})
    assert first["imageScanStatus"]["status"] == "IN_PROGRESS"
    assert "imageScanFindings" not in first
    done = findings_of(ecr, repository, imageTag="v1")
    assert done["imageScanStatus"]["status"] == "COMPLETE"
    assert done["imageScanFindings"]["findings"] == []
    assert done["imageScanFindings"]["findingSeverityCounts"] == {}
    with pytest.raises(ClientError) as caught:
        ecr.start_image_scan(repositoryName=repository, imageId={"imageTag": "v1"})
    assert code_of(caught) == "LimitExceededException"


def test_without_scan_on_push_a_scan_is_started_by_hand(ecr: Any, pusher: Any, oci: SimpleNamespace) -> None:
    """ScanNotFoundException until StartImageScan; once a day."""
    ecr.create_repository(repositoryName="by-hand")
    pusher.push("by-hand", oci.image_of({"a": "1"}), "v1")
    which = {"repositoryName": "by-hand", "imageId": {"imageTag": "v1"}}
    with pytest.raises(ClientError) as caught:
        ecr.describe_image_scan_findings(**which)
    assert code_of(caught) == "ScanNotFoundException"
    assert ecr.start_image_scan(**which)["imageScanStatus"]["status"] == "IN_PROGRESS"
    assert findings_of(ecr, "by-hand", imageTag="v1")["imageScanStatus"]["status"] == "COMPLETE"


def seed(up: dict[str, Any], **body: Any) -> httpx.Response:
    return httpx.post(f"{up['endpoint']}/_rehearsal/scan-findings", json=body)


def test_findings_are_seeded_for_a_repository_a_tag_or_the_next_image(
    up: dict[str, Any], ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """The narrowest seed counts; one for the next image is used up by it; severities are counted."""
    pusher.push(repository, oci.image_of({"a": "1"}), "v1")
    seed(up, repositoryName=repository, nextImage=True, imageScanFindings=HIGH).raise_for_status()
    pusher.push(repository, oci.image_of({"a": "2"}), "v2")
    pusher.push(repository, oci.image_of({"a": "3"}), "v3")

    def counts(tag: str) -> dict[str, int]:
        return findings_of(ecr, repository, imageTag=tag)["imageScanFindings"]["findingSeverityCounts"]

    assert [counts("v1"), counts("v2"), counts("v3")] == [{}, {"HIGH": 1}, {}]
    low = {"findings": [{"name": "CVE-2026-0002", "severity": "LOW"}]}
    seed(up, repositoryName=repository, imageScanFindings=low).raise_for_status()
    seed(up, repositoryName=repository, imageTag="v3", imageScanFindings=HIGH).raise_for_status()
    assert [counts("v1"), counts("v2"), counts("v3")] == [{"LOW": 1}, {"HIGH": 1}, {"HIGH": 1}]
    detail = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "v3"}])["imageDetails"][0]
    assert detail["imageScanFindingsSummary"]["findingSeverityCounts"] == {"HIGH": 1}


def test_enhanced_findings_and_refused_images_can_be_seeded(
    up: dict[str, Any], ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """Inspector's findings come back with their times, and so does a status like UNSUPPORTED_IMAGE."""
    pusher.push(repository, oci.image_of({"a": "1"}), "v1")
    enhanced = {
        "enhancedFindings": [
            {
                "severity": "CRITICAL",
                "fixAvailable": "YES",
                "firstObservedAt": "2026-11-20T10:00:00Z",
                "packageVulnerabilityDetails": {"vulnerabilityId": "CVE-2026-0003"},
            }
        ]
    }
    seed(
        up, repositoryName=repository, imageScanStatus={"status": "ACTIVE"}, imageScanFindings=enhanced
    ).raise_for_status()
    answer = findings_of(ecr, repository, imageTag="v1")
    finding = answer["imageScanFindings"]["enhancedFindings"][0]
    assert answer["imageScanStatus"]["status"] == "ACTIVE"
    assert finding["packageVulnerabilityDetails"]["vulnerabilityId"] == "CVE-2026-0003"
    assert datetime(2026, 11, 20, 10, tzinfo=UTC) == finding["firstObservedAt"]


def test_findings_that_ecr_could_not_give_are_refused(up: dict[str, Any]) -> None:
    """A seed with a misspelt key is an error that names it."""
    refused = seed(up, imageScanFindings={"finding": []})
    assert refused.status_code == 400
    assert "finding" in refused.json()["error"]
    assert seed(up, repository="r").status_code == 400


def test_many_findings_come_in_pages(
    up: dict[str, Any], ecr: Any, pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """boto3's paginator sees all of them."""
    pusher.push(repository, oci.image_of({"a": "1"}), "v1")
    many = [{"name": f"CVE-{n}", "severity": "LOW"} for n in range(250)]
    seed(up, repositoryName=repository, imageScanFindings={"findings": many}).raise_for_status()
    findings_of(ecr, repository, imageTag="v1")
    pages = ecr.get_paginator("describe_image_scan_findings").paginate(
        repositoryName=repository, imageId={"imageTag": "v1"}
    )
    names = [finding["name"] for page in pages for finding in page["imageScanFindings"]["findings"]]
    assert [finding["name"] for finding in many] == names


def test_lifecycle_policies_are_stored(ecr: Any, repository: str) -> None:
    """What was put can be read."""
    policy = (
        '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan",'
        '"countNumber":5},"action":{"type":"expire"}}]}'
    )
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=policy)
    assert policy == ecr.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]

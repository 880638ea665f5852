"""The registry: what image clients ask it, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest


@pytest.fixture
def ecr(client: Callable[..., Any]) -> Any:
    return client("ecr")


@pytest.fixture
def pusher(ecr: Any, oci: SimpleNamespace) -> Any:
    return oci.Pusher(ecr)


@pytest.fixture
def repository(ecr: Any) -> str:
    name = f"team/{uuid.uuid4().hex[:8]}"
    ecr.create_repository(repositoryName=name)
    return name


def test_a_pushed_image_comes_back_byte_for_byte(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """Push, then pull by tag and by digest: the same manifest, layer and configuration."""
    image = oci.image_of({"app/app.py": "print('hello')"})
    digest = pusher.push(repository, image, "v1")
    for reference in ("v1", digest):
        pulled = pusher.http.get(f"/v2/{repository}/manifests/{reference}")
        assert image.manifest == pulled.content
        assert digest == pulled.headers["Docker-Content-Digest"]
        assert pulled.headers["Content-Type"] == oci.MANIFEST
    for blob in (image.layer, image.config):
        assert blob == pusher.http.get(f"/v2/{repository}/blobs/{oci.sha256(blob)}").content
    assert {"name": repository, "tags": ["v1"]} == pusher.http.get(f"/v2/{repository}/tags/list").json()


def test_the_registry_wants_ecrs_token(up: dict[str, Any], pusher: Any) -> None:
    """No or wrong credentials: 401 with a Basic challenge, as `docker login` expects; the token: 200."""
    url = f"http://{up['registry']}/v2/"
    for auth in (None, ("AWS", "wrong"), ("root", "wrong")):
        refused = httpx.get(url, auth=auth)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
        assert refused.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert httpx.get(url, headers={"Authorization": "Basic %%%"}).status_code == 401
    assert pusher.http.get("/v2/").headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_blob_may_come_in_chunks(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """POST, PATCH by range, PUT with the digest; a chunk out of order is refused with 416 and loses nothing."""
    blob = bytes(range(256)) * 64
    upload = pusher.http.post(f"/v2/{repository}/blobs/uploads/")
    assert upload.status_code == 202
    location = upload.headers["Location"]
    assert upload.headers["Docker-Upload-UUID"] in location
    first = pusher.http.patch(location, content=blob[:1000], headers={"Content-Range": "0-999"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-999")
    wrong = pusher.http.patch(location, content=b"x", headers={"Content-Range": "5000-5000"})
    assert (wrong.status_code, wrong.headers["Range"]) == (416, "0-999")
    progress = pusher.http.get(location)
    assert (progress.status_code, progress.headers["Range"]) == (204, "0-999")
    done = pusher.http.put(location, params={"digest": oci.sha256(blob)}, content=iter([blob[1000:]]))
    assert done.status_code == 201
    assert blob == pusher.http.get(done.headers["Location"]).content
    assert len(blob) == int(pusher.http.head(done.headers["Location"]).headers["Content-Length"])


def test_a_blob_may_come_in_one_post(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """The monolithic upload: POST with the digest and the bytes."""
    answer = pusher.http.post(
        f"/v2/{repository}/blobs/uploads/", params={"digest": oci.sha256(b"whole")}, content=b"whole"
    )
    assert answer.status_code == 201
    assert pusher.http.get(answer.headers["Location"]).content == b"whole"


def test_a_mount_is_answered_by_an_upload(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """A client that asks for a blob of another repository is told to upload it."""
    params = {"mount": oci.sha256(b"elsewhere"), "from": "other"}
    answer = pusher.http.post(f"/v2/{repository}/blobs/uploads/", params=params)
    assert answer.status_code == 202
    assert "/blobs/uploads/" in answer.headers["Location"]


def test_bytes_that_are_not_their_digest_are_refused(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """A damaged upload leaves nothing behind."""
    location = pusher.http.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
    refused = pusher.http.put(location, params={"digest": oci.sha256(b"right")}, content=b"wrong")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert pusher.http.head(f"/v2/{repository}/blobs/{oci.sha256(b'right')}").status_code == 404
    assert pusher.http.get(location).status_code == 404


def test_a_manifest_without_its_blobs_is_refused(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """A tag never names an image that cannot be pulled."""
    image = oci.image_of({"app/app.py": "missing"})
    pusher.put_blob(repository, image.layer)
    refused = pusher.put_manifest(repository, image, "v1")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert oci.sha256(image.config) in refused.text
    assert pusher.http.head(f"/v2/{repository}/manifests/v1").status_code == 404


def test_an_unknown_repository_is_named_unknown(pusher: Any, oci: SimpleNamespace) -> None:
    """Pushing and pulling where no repository is: 404 with the OCI error body."""
    for answer in (
        pusher.http.post("/v2/nobody/made/this/blobs/uploads/"),
        pusher.http.get("/v2/nobody/made/this/manifests/v1"),
        pusher.http.get(f"/v2/nobody/made/this/blobs/{oci.sha256(b'x')}"),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_an_immutable_tag_stays(pusher: Any, ecr: Any, oci: SimpleNamespace) -> None:
    """ECR's immutability holds for pushes: TAG_INVALID for other and for the same bytes; a new tag is welcome."""
    ecr.create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    first, second = oci.image_of({"a": "1"}), oci.image_of({"a": "2"})
    pusher.push("fixed", first, "v1")
    for image in (first, second):
        pusher.put_blob("fixed", image.layer)
        pusher.put_blob("fixed", image.config)
        refused = pusher.put_manifest("fixed", image, "v1")
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "TAG_INVALID")
    assert pusher.put_manifest("fixed", first, "also-v1").status_code == 201
    assert first.digest == pusher.http.head("/v2/fixed/manifests/v1").headers["Docker-Content-Digest"]


def test_a_mutable_tag_moves_and_the_old_image_stays_by_digest(
    pusher: Any, repository: str, oci: SimpleNamespace
) -> None:
    """Pushing the same again changes nothing; pushing another image moves the tag."""
    first, second = oci.image_of({"a": "1"}), oci.image_of({"a": "2"})
    pusher.push(repository, first, "latest")
    pusher.push(repository, first, "latest")
    pusher.push(repository, second, "latest")
    assert second.manifest == pusher.http.get(f"/v2/{repository}/manifests/latest").content
    assert first.manifest == pusher.http.get(f"/v2/{repository}/manifests/{first.digest}").content


def test_a_manifest_pushed_by_a_wrong_digest_is_refused(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """The digest in the URL must be the manifest's own."""
    image = oci.image_of({"a": "1"})
    pusher.push(repository, image, "v1")
    refused = pusher.put_manifest(repository, image, f"sha256:{hashlib.sha256(b'other').hexdigest()}")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")


def test_an_index_needs_its_images(pusher: Any, repository: str, oci: SimpleNamespace) -> None:
    """An index of platforms is stored once the images it lists are there, and its size is the largest one's."""
    image, kind = oci.image_of({"a": "1"}), "application/vnd.oci.image.index.v1+json"
    listed = {"mediaType": oci.MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [listed]}).encode()
    url = f"/v2/{repository}/manifests/many"
    assert pusher.http.put(url, content=index, headers={"Content-Type": kind}).status_code == 404
    pusher.push(repository, image, "one")
    assert pusher.http.put(url, content=index, headers={"Content-Type": kind}).status_code == 201
    assert index == pusher.http.get(url).content


def test_what_ecr_does_not_offer_is_refused_in_words(pusher: Any, repository: str) -> None:
    """Deleting over /v2/ is not part of it: 405 with an OCI error."""
    refused = pusher.http.delete(f"/v2/{repository}/manifests/v1")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (405, "UNSUPPORTED")


def test_the_token_is_basic_credentials_of_the_user_aws(ecr: Any) -> None:
    """`docker login --username AWS` works with what GetAuthorizationToken gives."""
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert base64.b64decode(token).decode().startswith("AWS:")


@pytest.mark.docker
def test_a_real_docker_client_pushes_and_pulls(
    up: dict[str, Any], ecr: Any, repository: str, oci: SimpleNamespace, tmp_path: Path
) -> None:
    """docker login, push, push again, pull by digest: what the pipeline does with images of a Dockerfile."""
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}

    def docker(*words: str, given: bytes = b"") -> bytes:
        return subprocess.run(["docker", *words], input=given, env=environment, capture_output=True, check=True).stdout

    try:
        docker("info")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no Docker daemon answers")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("big")
        entry.size = 3_000_000
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).removeprefix(b"AWS:")
    name = f"{up['registry']}/{repository}"
    docker("login", "--username", "AWS", "--password-stdin", up["registry"], given=password)
    docker("import", "-", f"{name}:v1", given=buffer.getvalue())
    docker("push", f"{name}:v1")
    docker("push", f"{name}:v1")
    digest = ecr.describe_images(repositoryName=repository)["imageDetails"][0]["imageDigest"]
    docker("rmi", f"{name}:v1")
    docker("pull", f"{name}@{digest}")
    assert digest in docker("images", "--digests", name).decode()
    docker("rmi", f"{name}@{digest}")

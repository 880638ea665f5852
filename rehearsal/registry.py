"""ECR's other half: the registry that image clients push to and pull from (OCI distribution, /v2/).

https://github.com/opencontainers/distribution-spec/blob/main/spec.md says what is asked and answered; tags, digests
and immutability are ECR's own business, so every manifest goes through `ecr:PutImage`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from botocore.exceptions import ClientError

from rehearsal.blobs import DIGEST, Blobs, DigestMismatch, Upload
from rehearsal.context import LOOPBACK, Context
from rehearsal.unusable import UNWRITABLE, unwritable

log = logging.getLogger(__name__)
TOKEN_LIFE_S = 12 * 3600  # https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
URL_LIFE_S = 3600
STOP_WAIT_S = 1.0
MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024
ANY_MANIFEST = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
]
# ECR's codes as the registry's: (HTTP status, OCI error code)
REFUSALS = {
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "ImageNotFoundException": (404, "MANIFEST_UNKNOWN"),
    "LayersNotFoundException": (404, "MANIFEST_BLOB_UNKNOWN"),
    "ReferencedImagesNotFoundException": (404, "MANIFEST_BLOB_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
    "ImageDigestDoesNotMatchException": (400, "DIGEST_INVALID"),
    "InvalidParameterException": (400, "MANIFEST_INVALID"),
}


class Refusal(Exception):
    """An answer with the OCI error body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Passes:
    """Who may use the registry: passwords of limited life, and signed URLs for single blobs."""

    _expiry: dict[str, float] = field(default_factory=dict)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def issue(self) -> tuple[str, float]:
        """A new password for the user AWS, and when it expires (seconds since 1970)."""
        password, expires = secrets.token_urlsafe(48), time.time() + TOKEN_LIFE_S
        self._expiry[password] = expires
        return password, expires

    def admits(self, authorization: str) -> bool:
        """True for `Basic AWS:<a password that is still good>`."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return scheme.lower() == "basic" and user == "AWS" and self._expiry.get(password, 0) > time.time()

    def signed(self, path: str) -> str:
        """`path` with a signature that admits its bearer for an hour."""
        expires = int(time.time()) + URL_LIFE_S
        return f"{path}?expires={expires}&signature={self._signature(path, str(expires))}"

    def admits_url(self, path: str, expires: str, signature: str) -> bool:
        """True for a signed URL that is still good."""
        good = hmac.compare_digest(signature, self._signature(path, expires))
        return good and float(expires) > time.time()

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()


class Registry:
    """The /v2/ API on a port of its own in the one loop."""

    def __init__(self, context: Context, blobs: Blobs, passes: Passes) -> None:
        self._context, self._blobs, self._passes = context, blobs, passes
        self._uploads: dict[str, Upload] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, and tell the context where."""
        app = web.Application(middlewares=[self._guard], client_max_size=MANIFEST_LIMIT_BYTES)
        name = "/v2/{name:.+}"
        app.router.add_get("/v2/", self._version)
        app.router.add_get(name + "/tags/list", self._tags)
        app.router.add_post(name + "/blobs/uploads/", self._begin)
        app.router.add_patch(name + "/blobs/uploads/{upload}", self._append)
        app.router.add_put(name + "/blobs/uploads/{upload}", self._finish)
        app.router.add_get(name + "/blobs/uploads/{upload}", self._progress)
        app.router.add_delete(name + "/blobs/uploads/{upload}", self._abandon)
        app.router.add_get(name + "/blobs/{digest}", self._blob)  # HEAD comes with it
        app.router.add_get(name + "/manifests/{reference}", self._manifest)
        app.router.add_put(name + "/manifests/{reference}", self._put_manifest)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WAIT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._context.registry = f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening; half-done uploads are thrown away."""
        if self._runner:
            await self._runner.cleanup()
        for upload in self._uploads.values():
            upload.abandon()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if self._context.outages.is_off("ecr"):
                raise Refusal(503, "UNAVAILABLE", "ecr is switched off in this rehearsal.")
            if not self._may_enter(request):
                raise Refusal(401, "UNAUTHORIZED", "Sign in with the token of ecr:GetAuthorizationToken.")
            return await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except ClientError as error:
            return _refused(_as_refusal(error))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return _refused(self._unwritten(request, error))
        except web.HTTPNotFound:
            return _refused(Refusal(404, "UNSUPPORTED", f"{request.method} {request.path} is not part of the API."))
        except web.HTTPMethodNotAllowed:
            return _refused(Refusal(405, "UNSUPPORTED", f"ECR does not take {request.method} here."))

    def _unwritten(self, request: web.Request, error: OSError) -> Refusal:
        """A push that the disk does not take fails by itself; what it had written makes room again."""
        said = unwritable(error, self._context.settings.state_dir)
        if upload := self._uploads.pop(request.get("upload", ""), None):
            upload.abandon()
        log.error("%s %s: %s", request.method, request.path, said.what)
        return Refusal(507, "UNKNOWN", f"{said.what} Fix: {said.remedy}.")

    def _may_enter(self, request: web.Request) -> bool:
        query = request.query
        if request.method in ("GET", "HEAD") and "signature" in query:
            return self._passes.admits_url(request.path, query.get("expires", "0"), query["signature"])
        return self._passes.admits(request.headers.get("Authorization", ""))

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    async def _tags(self, request: web.Request) -> web.Response:
        name = await self._repository(request)
        answer = await self._context.call("ecr", "list_images", repositoryName=name)
        tags = sorted(image["imageTag"] for image in answer["imageIds"] if "imageTag" in image)
        return web.json_response({"name": name, "tags": tags})

    async def _begin(self, request: web.Request) -> web.Response:
        """Start an upload. `mount` is answered by an upload too, as the specification allows."""
        name = await self._repository(request)
        upload_id, upload = uuid.uuid4().hex, self._blobs.begin()
        self._uploads[upload_id] = upload
        request["upload"] = upload_id
        if "digest" in request.query:
            return await self._receive_last(request, name, upload_id)
        return self._continue(name, upload_id, 202)

    async def _append(self, request: web.Request) -> web.Response:
        upload_id, upload = self._upload(request)
        begins = re.match(r"(?:bytes )?(\d+)-", request.headers.get("Content-Range", ""))
        if begins and int(begins[1]) != upload.size_bytes:
            answer = self._continue(request.match_info["name"], upload_id, 416)
            await request.release()
            return answer
        await _receive(request, upload)
        return self._continue(request.match_info["name"], upload_id, 202)

    async def _finish(self, request: web.Request) -> web.Response:
        upload_id, _ = self._upload(request)
        return await self._receive_last(request, request.match_info["name"], upload_id)

    async def _progress(self, request: web.Request) -> web.Response:
        upload_id, _ = self._upload(request)
        return self._continue(request.match_info["name"], upload_id, 204)

    async def _abandon(self, request: web.Request) -> web.Response:
        upload_id, upload = self._upload(request)
        del self._uploads[upload_id]
        upload.abandon()
        return web.Response(status=204)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        path = self._blobs.path(await self._repository(request), digest)
        if path is None:
            raise Refusal(404, "BLOB_UNKNOWN", f"The repository has no blob {digest}.")
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        return web.FileResponse(path, headers=headers)

    async def _manifest(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        found = await self._context.call(
            "ecr",
            "batch_get_image",
            repositoryName=request.match_info["name"],
            imageIds=[_image_id(reference)],
            acceptedMediaTypes=ANY_MANIFEST,
        )
        if not found["images"]:
            raise Refusal(404, "MANIFEST_UNKNOWN", f"The repository has no image {reference}.")
        image = found["images"][0]
        headers = {
            "Docker-Content-Digest": image["imageId"]["imageDigest"],
            "Content-Type": image["imageManifestMediaType"],
        }
        return web.Response(body=image["imageManifest"].encode(), headers=headers)

    async def _put_manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        manifest = (await request.read()).decode()
        digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
        which = {"imageDigest": digest, **({} if DIGEST.fullmatch(reference) else {"imageTag": reference})}
        if DIGEST.fullmatch(reference) and reference != digest:
            raise Refusal(400, "DIGEST_INVALID", f"The manifest's digest is {digest}, not {reference}.")
        try:
            await self._context.call(
                "ecr",
                "put_image",
                repositoryName=name,
                imageManifest=manifest,
                imageManifestMediaType=request.content_type,
                **which,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ImageAlreadyExistsException":
                raise
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        return web.Response(status=201, headers=headers)

    async def _repository(self, request: web.Request) -> str:
        """The repository's name; an unknown one is refused by ECR itself."""
        name = request.match_info["name"]
        await self._context.call("ecr", "describe_repositories", repositoryNames=[name])
        return name

    def _upload(self, request: web.Request) -> tuple[str, Upload]:
        upload_id = request.match_info["upload"]
        if upload_id not in self._uploads:
            raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", f"There is no upload {upload_id}.")
        request["upload"] = upload_id
        return upload_id, self._uploads[upload_id]

    async def _receive_last(self, request: web.Request, name: str, upload_id: str) -> web.Response:
        digest = request.query.get("digest", "")
        if not DIGEST.fullmatch(digest):
            raise Refusal(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest.")
        upload = self._uploads[upload_id]
        await _receive(request, upload)
        del self._uploads[upload_id]
        try:
            self._blobs.keep(upload, name, digest)
        except DigestMismatch as mismatch:
            raise Refusal(400, "DIGEST_INVALID", f"The uploaded bytes are not {digest}.") from mismatch
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return web.Response(status=201, headers=headers)

    def _continue(self, name: str, upload_id: str, status: int) -> web.Response:
        last = max(self._uploads[upload_id].size_bytes - 1, 0)
        headers = {
            "Location": f"/v2/{name}/blobs/uploads/{upload_id}",
            "Range": f"0-{last}",
            "Docker-Upload-UUID": upload_id,
        }
        return web.Response(status=status, headers=headers)


async def _receive(request: web.Request, upload: Upload) -> None:
    async for chunk in request.content.iter_chunked(1 << 20):
        upload.write(chunk)


def _image_id(reference: str) -> dict[str, str]:
    return {"imageDigest": reference} if DIGEST.fullmatch(reference) else {"imageTag": reference}


def _as_refusal(error: ClientError) -> Refusal:
    answer = error.response["Error"]
    status, code = REFUSALS.get(answer["Code"], (500, "UNKNOWN"))
    if status == 500:
        log.error("ECR refused: %s", error)
    return Refusal(status, code, answer["Message"])


def _refused(refusal: Refusal) -> web.Response:
    headers = {"Docker-Distribution-Api-Version": "registry/2.0"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="rehearsal",service="ecr.amazonaws.com"'
    body: dict[str, Any] = {"errors": [{"code": refusal.code, "message": refusal.message}]}
    return web.Response(status=refusal.status, text=json.dumps(body), content_type="application/json", headers=headers)

"""Clear errors in AWS's own protocols for everything that the local AWS cannot answer.

Left alone, moto answers an action it lacks with HTTP 500 and a page of HTML: botocore retries that three times and
then raises a parser error. Here it becomes HTTP 501, which botocore does not retry, with the code `NotRehearsed`.
"""

from __future__ import annotations

import io
import json
import logging
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from moto.core.request import Request
from moto.core.routing import get_service_router

log = logging.getLogger(__name__)

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
# https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html (the credential scope)
SCOPE = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
# Parts of a bucket that moto does not know: it would take the request for one about the bucket itself.
S3_GAPS = {
    "abac",
    "analytics",
    "annotation",
    "intelligent-tiering",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "renameObject",
    "requestPayment",
    "session",
    "torrent",
}
REST_XML = {"s3", "s3control", "route53", "cloudfront"}


@dataclass(frozen=True)
class Call:
    """What a request asks for, as far as it says so itself; `protocol` is the one its caller understands."""

    service: str
    action: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.service}:{self.action}"


class NotRehearsed:
    """moto's WSGI application, with its gaps and its crashes answered in the caller's protocol."""

    def __init__(self, aws: Callable[..., Iterable[bytes]]) -> None:
        self._aws = aws
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def calls(self) -> list[str]:
        """Every `service:Action` that was asked for and is not rehearsed."""
        with self._lock:
            return sorted(self._calls)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = identify(environ)
        try:
            _refuse_gaps(environ, call)
            status, headers, body = _answer_of(self._aws, environ)
        except NotImplementedError as gap:
            log.warning("%s is not rehearsed: %s", call, gap)
            status, headers, body = self._missing(call)
        except Exception:
            log.exception("%s failed", call)
            status, headers, body = error(
                call, 500, "InternalFailure", f"{call} failed inside the local AWS; see its log."
            )
        else:
            if _is_nobodys_answer(environ, call, status, body):
                status, headers, body = self._missing(call)
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    def _missing(self, call: Call) -> tuple[str, Headers, list[bytes]]:
        with self._lock:
            self._calls[str(call)] += 1
        return error(call, 501, "NotRehearsed", f"{call} is not rehearsed. The local AWS knows it only by name.")


def identify(environ: Environ) -> Call:
    """Service, action and protocol of a request, from its signature, target header, form or path."""
    scope = SCOPE.search(environ.get("HTTP_AUTHORIZATION", "")) or SCOPE.search(_presigned(environ))
    service = scope["service"].lower() if scope else "unknown"
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return Call(service, target.rsplit(".", 1)[-1], "json")
    if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
        return Call(service, environ["PATH_INFO"].rsplit("/", 1)[-1], "cbor")
    if action := _form(environ).get("Action"):
        return Call(service, action[0], "ec2" if service == "ec2" else "query")
    protocol = "rest-xml" if service in REST_XML else "rest-json"
    return Call(service, _rest_action(service, environ), protocol)


def error(call: Call, status: int, code: str, message: str) -> tuple[str, Headers, list[bytes]]:
    """An error that botocore parses into `code` and `message` in the call's protocol."""
    content_type, body = _body(call, code, message)
    reason = HTTPStatus(status).phrase
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", code),  # https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
        ("x-amzn-RequestId", "rehearsal"),
    ]
    if call.protocol == "cbor":
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    return f"{status} {reason}", headers, [body]


def _body(call: Call, code: str, message: str) -> tuple[str, bytes]:
    if call.protocol in ("json", "rest-json"):
        kind = "application/x-amz-json-1.1" if call.protocol == "json" else "application/json"
        return kind, json.dumps({"__type": code, "message": message}).encode()
    if call.protocol == "cbor":
        return "application/cbor", _cbor({"__type": code, "message": message})
    fields = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.protocol == "ec2":
        text = f"<Response><Errors><Error>{fields}</Error></Errors><RequestID>rehearsal</RequestID></Response>"
    elif call.service == "s3":
        text = f"<Error>{fields}<RequestId>rehearsal</RequestId></Error>"
    else:
        text = f"<ErrorResponse><Error>{fields}</Error><RequestId>rehearsal</RequestId></ErrorResponse>"
    return "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _cbor(texts: dict[str, str]) -> bytes:
    """A map of short texts (RFC 8949): major type 5, then texts of major type 3 with a 16-bit length."""
    words = [word.encode() for pair in texts.items() for word in pair]
    return bytes([0xA0 | len(texts)]) + b"".join(b"\x79" + struct.pack(">H", len(word)) + word for word in words)


def _answer_of(aws: Callable[..., Iterable[bytes]], environ: Environ) -> tuple[str, Headers, Iterable[bytes]]:
    started: list[tuple[str, Headers]] = []

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> None:
        started.append((status, headers))

    body = aws(environ, start_response)
    status, headers = started[-1]
    if status[:3] in ("404", "405", "500"):
        whole = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return status, headers, [whole]
    return status, headers, body


def _is_nobodys_answer(environ: Environ, call: Call, status: str, body: Iterable[bytes]) -> bool:
    """True for what Flask and moto say when no handler took the request: a page of HTML, or nothing at all."""
    if status[:3] not in ("404", "405", "500"):
        return False
    text = b"".join(body)
    if not text:
        return status[:3] == "404" and call.service != "s3" and environ["REQUEST_METHOD"] != "HEAD"
    return text.lstrip()[:14].lower() == b"<!doctype html"


def _refuse_gaps(environ: Environ, call: Call) -> None:
    asked = S3_GAPS & set(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if call.service == "s3" and asked:
        raise NotImplementedError(f"no {asked} here")


def _presigned(environ: Environ) -> str:
    return unquote(environ.get("QUERY_STRING", "")).replace("X-Amz-Credential", "Credential")


def _form(environ: Environ) -> dict[str, list[str]]:
    """The request's form fields; its body stays readable for whoever answers."""
    fields = parse_qs(environ.get("QUERY_STRING", ""))
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(raw)
        fields |= parse_qs(raw.decode("utf-8", "replace"))
    return fields


def _rest_action(service: str, environ: Environ) -> str:
    try:
        operation, _ = get_service_router(service).match(Request(environ.copy()))
    except Exception:  # an unknown service or path: the path itself is then the best name there is
        return f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '/')}"
    return str(operation.name)

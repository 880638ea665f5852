"""AWS calls that the rehearsal makes to itself: botocore's own, answered in the calling thread without a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from moto.core.botocore_stubber import MockRawResponse
from werkzeug.test import EnvironBuilder, run_wsgi_app


def answered_by(aws: Callable[..., Iterable[bytes]]) -> Callable[..., AWSResponse]:
    """A handler of botocore's `before-send` that has the WSGI application `aws` answer instead of the network.

    https://botocore.amazonaws.com/v1/documentation/api/latest/topics/events.html
    """

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        body = request.body.read() if hasattr(request.body, "read") else request.body
        headers = [
            (name, value.decode() if isinstance(value, bytes) else value) for name, value in request.headers.items()
        ]
        asked = EnvironBuilder(request.url, method=request.method, headers=headers, data=body)
        chunks, status, told = run_wsgi_app(aws, asked.get_environ())
        return AWSResponse(request.url, int(status[:3]), told, MockRawResponse(b"".join(chunks)))

    return answer

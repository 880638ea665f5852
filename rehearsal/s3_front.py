"""S3 as moto has it, but for two things: conditional writes are atomic, and bucket policies are not half enforced.

Moto checks `If-None-Match` and writes in two steps, so that two writers at once could both win:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
Moto reads a policy without its conditions, so that a statement which denies plain HTTP would deny everything. Policies
are stored and given back; nothing else is authorised in the local AWS either, and its report says so.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response

from rehearsal.context import Context


class S3:
    """The part that makes writes to one object follow each other."""

    def __init__(self, context: Context) -> None:
        del context  # every part is made alike

    def install(self) -> None:
        """Answer from here on. Call before the server starts."""
        FakeBucket.get_permission = lambda _bucket, _action, _resource: PermissionResult.NEUTRAL
        writing = threading.Lock()
        for action in ("put_object", "delete_object"):
            setattr(S3Response, action, _one_at_a_time(getattr(S3Response, action), writing))

    async def start(self) -> None:
        """Nothing runs."""

    async def stop(self) -> None:
        """Nothing runs."""


def _one_at_a_time(action: Callable[[S3Response], Any], writing: threading.Lock) -> Callable[[S3Response], Any]:
    @functools.wraps(action)
    def answer(response: S3Response) -> Any:
        with writing:
            return action(response)

    return answer

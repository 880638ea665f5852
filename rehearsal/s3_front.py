"""S3 as moto has it, but for bucket policies: stored and given back, not enforced.

Moto reads a policy without its conditions, so that a statement which denies plain HTTP would deny everything.
Nothing else is authorised in the local AWS either; its report says so.
"""

from __future__ import annotations

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from rehearsal.context import Context


class S3:
    """The part that keeps moto from judging bucket policies by half."""

    def __init__(self, context: Context) -> None:
        del context  # every part is made alike

    def install(self) -> None:
        FakeBucket.get_permission = lambda _bucket, _action, _resource: PermissionResult.NEUTRAL

    async def start(self) -> None:
        """Nothing runs."""

    async def stop(self) -> None:
        """Nothing runs."""

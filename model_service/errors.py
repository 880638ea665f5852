"""The two ways things go wrong: the service cannot start, or a request cannot be answered."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class StartRefused(Exception):
    """The service cannot start; the message is one sentence that names the cause."""


class RequestRefused(Exception):
    """A request gets an error status and `{"error": message}`; the message is safe to show to the caller."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class UserCodeFailed(RequestRefused):
    """The user's own service.py raised, or gave back what cannot be used.

    The caller is told the exception's type; its text may hold what is nobody's business and is for the log alone.
    """

    def __init__(self, message: str, raised: BaseException | None = None) -> None:
        super().__init__(500, message)
        text = str(raised) if raised else ""
        self.for_log = f"{message}: {text}" if text else message


def as_refused(error: Exception, request_id: str | None) -> RequestRefused:
    """What the caller is told of `error`; what is our own fault is logged with its stack."""
    if not isinstance(error, RequestRefused):
        logger.error("the request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
        return RequestRefused(500, "internal error; the log has the cause under this answer's X-Request-Id")
    if error.status == 500:
        words = error.for_log if isinstance(error, UserCodeFailed) else error.message
        logger.error("%s", words, exc_info=error.__cause__, extra={"fields": {"request_id": request_id}})
    return error

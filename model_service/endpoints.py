"""The paths that take inference requests: which model answers, and how a request's headers and body become a job.

Looked up by the raw path, so that the hot path (http/hot_path.py) and the routes (http/app.py) serve the same by the
same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from model_service.images.reading import ImageLimits, carries_images
from model_service.inference.body import Body, CompressedAnswer, chosen_encoding
from model_service.inference.infer import InferWork
from model_service.inference.predict import Limits, PredictWork
from model_service.scheduling.job import Answer, Job, Work
from model_service.served import Served
from model_service.settings import Settings

JSON_LENGTH = b"inference-header-content-length"
Headers = Mapping[bytes, bytes]


class Endpoint:
    """One path. `kind` is infer or predict; `served` changes when another version takes over."""

    __slots__ = ("_limits", "kind", "served", "settings")

    def __init__(self, kind: str, served: Served, settings: Settings) -> None:
        self.kind = kind
        self.served = served
        self.settings = settings
        self._limits = Limits(settings.max_rows, ImageLimits(settings.max_image_pixels, settings.max_images))

    def submit(self, headers: Headers, body: bytes, on_done: Callable[[Job], None], *, query: bytes = b"") -> Job:
        """The job that answers the request, on its way. Raises RequestRefused(503) when too much waits."""
        served, settings = self.served, self.settings
        content = Body(body, headers.get(b"content-encoding", b"").lower(), settings.max_body_bytes)
        work: Work
        has_images = False
        if self.kind == "infer":
            length = headers.get(JSON_LENGTH)
            work = InferWork(served.model, content, length, settings.max_rows, served.labels_of)
        else:
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            has_images = carries_images(content_type)
            work = PredictWork(served.loaded, content, content_type, query, self._limits)
        accepted = headers.get(b"accept-encoding")
        if accepted and (encoding := chosen_encoding(accepted)):
            work = CompressedAnswer(work, encoding)
        job = Job(
            work,
            on_done,
            endpoint=self.kind,
            size_bytes=len(body),
            timeout_s=settings.request_timeout_s,
            may_inline=not has_images,
        )
        served.scheduler.submit(job)
        return job


def answer_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, without its length."""
    return [(b"content-type", answer.content_type), *extra_headers(answer)]


def extra_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Those that few answers have."""
    headers = []
    if answer.json_length is not None:
        headers.append((JSON_LENGTH, b"%d" % answer.json_length))
    if answer.encoding is not None:
        headers.append((b"content-encoding", answer.encoding))
    return headers

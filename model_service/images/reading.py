"""A request that carries images, read: one array for the model, and what else the form said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model_service.errors import RequestRefused
from model_service.images.decoding import MEDIA_TYPES, decode
from model_service.images.forms import Form, read_form
from model_service.images.recipe import ImageInput
from model_service.images.transforming import to_row
from model_service.tensors import Array

FORM = "multipart/form-data"
MARKS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a request may hold: pixels of an image, images of a form."""

    max_pixels: int
    max_images: int


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The images as one batch, by the input's name, and the form's `top_k` as it was written."""

    inputs: dict[str, Array]
    count: int
    top_k: str | None


@lru_cache(maxsize=64)
def carries_images(content_type: str) -> bool:
    """Whether a body of this Content-Type is for this package: a form, or an image of whatever kind."""
    media_type = _media_type(content_type)
    return media_type == FORM or media_type.startswith("image/")


def image_type(body: bytes) -> str | None:
    """The media type of an image by its first bytes, https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for mark, media_type in MARKS.items() if body.startswith(mark)), None)


def read_images(body: bytes, content_type: str, wanted: ImageInput | None, limits: ImageLimits) -> ImageRequest:
    """The images in `body`, decoded and preprocessed. Raises RequestRefused: 400, 413, or 415 where none are taken."""
    media_type = _media_type(content_type)
    if wanted is None:
        raise RequestRefused(415, f"this model takes JSON, not {media_type}: its manifest declares no preprocessing")
    form = read_form(body, content_type, max_files=limits.max_images) if media_type == FORM else None
    if form is None and media_type not in MEDIA_TYPES:
        raise RequestRefused(415, f"{media_type} is not taken; send one of {', '.join(MEDIA_TYPES)}, or {FORM}")
    files = [body] if form is None else form.files
    if not files:
        raise RequestRefused(400, "the form has no file")
    rows = [_row(file, number, len(files), wanted, limits) for number, file in enumerate(files, 1)]
    if len({row.shape for row in rows}) > 1:
        raise RequestRefused(400, "the images have different sizes after their preprocessing; send them one by one")
    return ImageRequest({wanted.spec.name: np.stack(rows)}, len(rows), _top_k(form))


def _row(file: bytes, number: int, of: int, wanted: ImageInput, limits: ImageLimits) -> Array:
    """One file at a time, so that only its row stays in memory."""
    what = f"image {number}" if of > 1 else "the image"
    image = decode(file, wanted.recipe.color, max_pixels=limits.max_pixels, what=what)
    return to_row(image, wanted, max_pixels=limits.max_pixels, what=what)


def _top_k(form: Form | None) -> str | None:
    return form.fields["top_k"].decode(errors="replace") if form and "top_k" in form.fields else None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()

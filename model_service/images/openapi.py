"""What OpenAPI says of images: the bodies that /predict takes beside JSON."""

from __future__ import annotations

from typing import Any

from model_service.images.decoding import MEDIA_TYPES
from model_service.images.reading import FORM
from model_service.inference.classes import MAX_TOP_K

# `format: binary` is OpenAPI 3.0's word; Swagger UI still goes by it when it shows the chooser of files.
FILE = {"type": "string", "format": "binary"}
TOP_K = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_TOP_K,
    "description": "How many of the most likely classes to name",
}


def image_contents() -> dict[str, Any]:
    """The `content` of a request body that is an image, or a form of one or several."""
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "array", "items": FILE, "minItems": 1}, "top_k": TOP_K},
    }
    return {FORM: {"schema": form}} | {media_type: {"schema": FILE} for media_type in MEDIA_TYPES}


def top_k_parameter() -> dict[str, Any]:
    """The query parameter `top_k`."""
    schema = {key: value for key, value in TOP_K.items() if key != "description"}
    return {
        "name": "top_k",
        "in": "query",
        "required": False,
        "description": TOP_K["description"],
        "schema": schema,
    }

"""From pixels to a row of the model's input, step by step as the recipe says.

`resize` is Pillow's own, which torchvision and Hugging Face call for it too: bilinear, bicubic and lanczos smooth when
they shrink. `center_crop` is torchvision's: what is too small gets black borders. Numbers are computed in float32.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from model_service.errors import RequestRefused
from model_service.images.decoding import check_pixels
from model_service.images.recipe import ImageInput, Preprocessing, Resize
from model_service.tensors import Array

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def to_row(image: Image.Image, wanted: ImageInput, *, max_pixels: int, what: str = "the image") -> Array:
    """The decoded image in the input's layout and datatype, without the batch axis. Raises RequestRefused."""
    recipe = wanted.recipe
    if recipe.resize:
        image = _resized(image, recipe.resize, max_pixels, what)
    if recipe.center_crop:
        image = _center_cropped(image, recipe.center_crop)
    _check_size(image, wanted, what)
    return _laid_out(_numbers(image, recipe), recipe.layout).astype(wanted.spec.datatype.numpy_type, copy=False)


def _resized(image: Image.Image, resize: Resize, max_pixels: int, what: str) -> Image.Image:
    size = (resize.size[1], resize.size[0]) if resize.size else _shortest_edge(image.size, resize.shortest_edge or 1)
    check_pixels(size, max_pixels, f"{what}, resized,")  # a long thin image grows with its short side
    return image.resize(size, INTERPOLATIONS[resize.interpolation])


def _shortest_edge(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The longer side is rounded down: torchvision's `_compute_resized_output_size`."""
    short, long = min(size), max(size)
    scaled = int(edge * long / short)
    return (edge, scaled) if size[0] <= size[1] else (scaled, edge)


def _center_cropped(image: Image.Image, crop: tuple[int, int]) -> Image.Image:
    (width, height), (crop_height, crop_width) = image.size, crop
    left, top = _offset(width, crop_width), _offset(height, crop_height)
    return image.crop((left, top, left + crop_width, top + crop_height))


def _offset(side: int, crop: int) -> int:
    """Where the crop begins, below zero where it begins with a border: torchvision's `center_crop`, which rounds so."""
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)


def _check_size(image: Image.Image, wanted: ImageInput, what: str) -> None:
    if wanted.height not in (None, image.height) or wanted.width not in (None, image.width):
        sizes = [size if size is not None else "any" for size in (wanted.height, wanted.width)]
        raise RequestRefused(
            400,
            f"{what} is {image.height} x {image.width} (height x width) after its preprocessing; "
            f"the model takes {sizes[0]} x {sizes[1]}",
        )


def _numbers(image: Image.Image, recipe: Preprocessing) -> Array:
    """Pixels as (height, width, channels): uint8 as they are, float32 where a step changes them."""
    pixels: Array = np.asarray(image).reshape(image.height, image.width, recipe.channels)
    if recipe.color == "BGR":
        pixels = pixels[:, :, ::-1]
    if recipe.rescale is not None:
        pixels = pixels * np.float32(recipe.rescale)
    if recipe.mean is not None:
        pixels = pixels - np.array(recipe.mean, np.float32)
    if recipe.std is not None:
        pixels = pixels / np.array(recipe.std, np.float32)
    return pixels


def _laid_out(pixels: Array, layout: str) -> Array:
    if layout == "flat":
        return pixels.reshape(-1)
    return pixels.transpose(2, 0, 1) if layout == "NCHW" else pixels

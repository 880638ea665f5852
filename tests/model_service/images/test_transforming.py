"""The recipe's steps against the same steps written with numpy alone."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from model_service.errors import RequestRefused
from model_service.images.recipe import Preprocessing, fit
from model_service.images.transforming import to_row
from model_service.tensors import BY_NAME, TensorSpec
from tests.model_service.images.files import noise

MANY = 2**25
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's


def transformed(pixels: np.ndarray, shape: list[int | None], datatype: str = "FP32", **recipe: Any) -> np.ndarray:
    declared = msgspec.convert({"layout": "NCHW", **recipe}, Preprocessing)
    wanted = fit(declared, None, [TensorSpec("x", BY_NAME[datatype], (None, *shape))])
    return to_row(Image.fromarray(pixels), wanted, max_pixels=MANY)


def shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """`pixels` resized with a triangle as wide as the scale: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters"""
    for axis, size in ((0, height), (1, width)):
        pixels = np.moveaxis(np.tensordot(weights(pixels.shape[axis], size), pixels, (1, axis)), 0, axis)
    return pixels


def weights(old: int, new: int) -> np.ndarray:
    """How much each old pixel counts in each new one, (new, old)."""
    scale = old / new
    centers = (np.arange(new)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(old)[None] + 0.5 - centers) / max(scale, 1.0)
    triangle = np.clip(1 - distance, 0, None)
    return triangle / triangle.sum(axis=1, keepdims=True)


def test_imagenets_recipe_is_what_numpy_computes() -> None:
    """Shortest edge 256, crop 224, rescale, normalize: within one level of grey, because Pillow's resize rounds."""
    picture = noise(300, 420)

    row = transformed(
        picture,
        [3, 224, 224],
        resize={"shortest_edge": 256},
        center_crop=[224, 224],
        rescale=1 / 255,
        mean=MEAN,
        std=STD,
    )

    resized = shrunk(picture.astype(float), 256, int(256 * 420 / 300))
    cropped = resized[16:240, 67:291]
    expected = ((cropped / 255 - MEAN) / STD).transpose(2, 0, 1)
    assert ((3, 224, 224), np.float32) == (row.shape, row.dtype)
    assert np.abs(row - expected).max() <= 1.01 / 255 / min(STD)


def test_without_a_resize_the_numbers_are_exact() -> None:
    """Rescale, mean and std are single operations of float32."""
    picture = noise(5, 4)

    row = transformed(picture, [3, 5, 4], rescale=1 / 255, mean=MEAN, std=STD)

    steps = (picture * np.float32(1 / 255) - np.float32(MEAN)) / np.float32(STD)
    assert steps.transpose(2, 0, 1).tolist() == row.tolist()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_a_size_is_met_whatever_the_shape(interpolation: str) -> None:
    """A picture of one colour keeps it under every interpolation."""
    picture = np.full((31, 17, 3), (9, 99, 199), np.uint8)

    row = transformed(picture, [3, 8, 12], "UINT8", resize={"size": [8, 12], "interpolation": interpolation})

    assert [9, 99, 199] == [np.unique(channel).item() for channel in row]


def test_nearest_takes_pixels_as_they_are() -> None:
    """Twice the size is every pixel twice."""
    picture = noise(3, 2)

    row = transformed(picture, [6, 4, 3], "UINT8", layout="NHWC", resize={"size": [6, 4], "interpolation": "nearest"})

    assert picture.repeat(2, axis=0).repeat(2, axis=1).tolist() == row.tolist()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 50, (40, 20)), (50, 100, (20, 40)), (30, 30, (20, 20)), (33, 100, (20, math.floor(20 * 100 / 33)))],
)
def test_the_shorter_side_gets_the_shortest_edge(height: int, width: int, expected: tuple[int, int]) -> None:
    """The longer one follows, rounded down."""
    row = transformed(noise(height, width), [None, None, 3], "UINT8", layout="NHWC", resize={"shortest_edge": 20})

    assert (*expected, 3) == row.shape


@pytest.mark.parametrize(
    ("size", "crop", "rows", "columns"),
    [
        ((6, 8), (4, 4), slice(1, 5), slice(2, 6)),
        ((5, 7), (4, 4), slice(0, 4), slice(2, 6)),  # 0.5 and 1.5 are rounded to even
        ((4, 4), (4, 4), slice(0, 4), slice(0, 4)),
    ],
)
def test_the_crop_is_torchvisions(size: tuple[int, int], crop: tuple[int, int], rows: slice, columns: slice) -> None:
    """`int(round((height - crop_height) / 2.0))` is where it begins."""
    picture = noise(*size)

    row = transformed(picture, [*crop, 3], "UINT8", layout="NHWC", center_crop=crop)

    assert picture[rows, columns].tolist() == row.tolist()


def test_a_crop_larger_than_the_image_has_black_borders() -> None:
    """The odd row of it below, the odd column to the right."""
    picture = noise(2, 5)

    row = transformed(picture, [5, 3, 3], "UINT8", layout="NHWC", center_crop=[5, 3])

    assert np.pad(picture[:, 1:4], ((1, 2), (0, 0), (0, 0))).tolist() == row.tolist()


@pytest.mark.parametrize(("color", "mean"), [("RGB", [1, 2, 3]), ("BGR", [3, 2, 1])])
def test_mean_is_in_the_order_of_the_channels(color: str, mean: list[float]) -> None:
    """BGR turns pixels, mean and std alike."""
    picture = noise(2, 2)

    row = transformed(picture, [2, 2, 3], layout="NHWC", color=color, mean=mean)

    expected = picture.astype(np.float32) - np.float32([1, 2, 3])
    assert (expected if color == "RGB" else expected[:, :, ::-1]).tolist() == row.tolist()


def test_flat_is_row_by_row_with_channels_last() -> None:
    """As a table of features has an image."""
    picture = noise(3, 2)

    assert picture.ravel().tolist() == transformed(picture, [18], layout="flat").tolist()


@pytest.mark.parametrize(("datatype", "kind"), [("UINT8", "uint8"), ("FP16", "float16"), ("FP64", "float64")])
def test_the_row_has_the_inputs_datatype(datatype: str, kind: str) -> None:
    """Whole pixel values are exact in all of them."""
    picture = noise(2, 2)

    row = transformed(picture, [2, 2, 3], datatype, layout="NHWC")

    assert (kind, picture.tolist()) == (str(row.dtype), row.tolist())


def test_an_image_of_another_size_is_refused_with_both() -> None:
    """Where no step makes it fit."""
    with pytest.raises(RequestRefused) as caught:
        transformed(noise(9, 8), [3, 8, 8])

    assert "the image is 9 x 8 (height x width) after its preprocessing; the model takes 8 x 8" == caught.value.message


def test_a_thin_line_is_no_bomb() -> None:
    """A shortest edge multiplies the long one: 1 x 60000 would become 224 x 13440000."""
    with pytest.raises(RequestRefused, match="the image, resized, has 13440000 x 224 pixels") as caught:
        transformed(noise(1, 60_000), [3, 224, 224], resize={"shortest_edge": 224}, center_crop=[224, 224])

    assert 413 == caught.value.status

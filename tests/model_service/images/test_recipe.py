"""What a manifest's `preprocessing` may say, and to which inputs it fits."""

from typing import Any

import msgspec
import pytest

from model_service.errors import StartRefused
from model_service.images.recipe import Preprocessing, fit
from model_service.tensors import BY_NAME, TensorSpec


def spec(*dimensions: Any, datatype: str = "FP32", name: str = "x") -> TensorSpec:
    return TensorSpec(name, BY_NAME[datatype], dimensions)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({}, "missing required field `layout`"),
        ({"layout": "CHW"}, "Invalid enum value 'CHW'"),
        ({"layout": "NCHW", "normalise": True}, "unknown field `normalise`"),
        ({"layout": "NCHW", "resize": {}}, "either `size` or `shortest_edge`"),
        ({"layout": "NCHW", "resize": {"size": [2, 2], "shortest_edge": 2}}, "either `size` or `shortest_edge`"),
        ({"layout": "NCHW", "resize": {"size": [0, 2]}}, ">= 1"),
        ({"layout": "NCHW", "center_crop": [9999, 2]}, "<= 4096"),
        ({"layout": "NCHW", "mean": [0.5]}, "mean has 1 values; RGB has 3"),
        ({"layout": "NCHW", "color": "L", "std": [1, 1, 1]}, "std has 3 values; L has 1"),
        ({"layout": "NCHW", "std": [1, 1, 0]}, "> 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(recipe: dict[str, Any], words: str) -> None:
    """By the member's name; a step of another name is not passed over in silence."""
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(recipe, Preprocessing)


FIXED = spec(None, 3, 224, 224)


@pytest.mark.parametrize(
    ("recipe", "inputs", "words"),
    [
        ({"layout": "NHWC"}, [FIXED], "color RGB has 3 channels; `x` takes 224"),
        ({"layout": "NCHW", "color": "L"}, [FIXED], "color L has 1 channels; `x` takes 3"),
        ({"layout": "flat"}, [FIXED], "layout flat has 2 axes; `x` is [-1, 3, 224, 224]"),
        ({"layout": "NCHW"}, [spec(None, 64)], "layout NCHW has 4 axes; `x` is [-1, 64]"),
        ({"layout": "NCHW", "resize": {"size": [256, 256]}}, [FIXED], "gives images of 256 x 256"),
        ({"layout": "NCHW", "center_crop": [256, 224]}, [FIXED], "gives images of 256 x 224"),
        ({"layout": "NCHW", "resize": {"shortest_edge": 256}}, [FIXED], "makes the shortest edge 256"),
        (
            {"layout": "flat", "resize": {"size": [8, 8]}},
            [spec(None, 64)],
            "gives 8 x 8 x 3 = 192 features; `x` takes 64",
        ),
        ({"layout": "NCHW"}, [spec(None, 3, 8, 8, datatype="INT64")], "gives UINT8, FP16, FP32 or FP64; `x`"),
        ({"layout": "NCHW", "rescale": 0.1}, [spec(None, 3, 8, 8, datatype="UINT8")], "has rescale, which give"),
        ({"layout": "NCHW"}, [FIXED, spec(None, name="z")], "fills `x` alone; the model has `z` too"),
    ],
)
def test_what_no_image_could_fit_is_refused(recipe: dict[str, Any], inputs: list[TensorSpec], words: str) -> None:
    """Against the model's signature, at the start."""
    with pytest.raises(StartRefused) as caught:
        fit(msgspec.convert(recipe, Preprocessing), None, inputs)

    assert f"the manifest's predict.preprocessing {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "given", "size"),
    [
        ({"layout": "NCHW"}, FIXED, (224, 224)),
        ({"layout": "NCHW", "resize": {"size": [8, 9]}}, spec(None, 3, None, None), (8, 9)),
        ({"layout": "NCHW", "resize": {"shortest_edge": 256}, "center_crop": [224, 224]}, FIXED, (224, 224)),
        ({"layout": "NHWC", "resize": {"shortest_edge": 8}}, spec(None, None, None, 3), (None, None)),
        ({"layout": "flat", "color": "L", "resize": {"size": [8, 8]}}, spec("N", 64), (8, 8)),
    ],
)
def test_a_recipe_that_fits_knows_the_size(recipe: dict[str, Any], given: TensorSpec, size: tuple[Any, Any]) -> None:
    """Height and width that every image has in the end, where anything says so."""
    fitted = fit(msgspec.convert(recipe, Preprocessing), None, [given])

    assert size == (fitted.height, fitted.width)

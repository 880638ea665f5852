"""The manifest's `preprocessing`: how an image becomes a row of the model's input.

The words and their order are those of torchvision's transforms and of Hugging Face's image processors: colour, resize,
center crop, rescale, normalize, layout.
https://docs.pytorch.org/vision/stable/transforms.html, https://huggingface.co/docs/transformers/main_classes/image_processor
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from model_service.errors import StartRefused
from model_service.tensors import TensorSpec

Side = Annotated[int, Meta(ge=1, le=4096)]
Positive = Annotated[float, Meta(gt=0)]
Channels = Annotated[list[float], Meta(min_length=1, max_length=3)]
CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
AXES = {"NCHW": ("C", "H", "W"), "NHWC": ("H", "W", "C"), "flat": ("features",)}
FLOATS = ("FP16", "FP32", "FP64")


# An unknown member is refused: a step that is silently left out gives wrong answers.
class Resize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To `size` (height, width) whatever the shape was, or so that the shorter side has `shortest_edge` pixels."""

    size: tuple[Side, Side] | None = None
    shortest_edge: Side | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.shortest_edge is None):
            raise ValueError("resize needs either `size` or `shortest_edge`")


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every step is left out where it is not named. `mean` and `std` are per channel, in the order of `color`."""

    layout: Literal["NCHW", "NHWC", "flat"]
    color: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Resize | None = None
    center_crop: tuple[Side, Side] | None = None
    rescale: Positive | None = None
    mean: Channels | None = None
    std: Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} values; {self.color} has {self.channels}")

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return CHANNELS[self.color]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every image after the steps, where the steps alone decide them."""
        return self.center_crop or (self.resize.size if self.resize else None)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A recipe with the input that it fills. `height` and `width`: what every image must have in the end, or None."""

    recipe: Preprocessing
    spec: TensorSpec
    height: int | None
    width: int | None


def fit(recipe: Preprocessing, name: str | None, inputs: Sequence[TensorSpec]) -> ImageInput:
    """The recipe, fitted to the model's input. Raises StartRefused for what no image could ever fit."""
    spec = _input(name, inputs)
    if len(inputs) > 1:
        others = ", ".join(f"`{other.name}`" for other in inputs if other is not spec)
        raise _refused(f"fills `{spec.name}` alone; the model has {others} too")
    _check_datatype(recipe, spec)
    axes = AXES[recipe.layout]
    if len(spec.dimensions) != len(axes) + 1:
        raise _refused(f"layout {recipe.layout} has {len(axes) + 1} axes; `{spec.name}` is {list(spec.shape)}")
    wanted = {axis: size if size >= 0 else None for axis, size in zip(axes, spec.shape[1:], strict=True)}
    if wanted.get("C", recipe.channels) not in (None, recipe.channels):
        raise _refused(f"color {recipe.color} has {recipe.channels} channels; `{spec.name}` takes {wanted['C']}")
    _check_features(recipe, spec, wanted.get("features"))
    return _sized(recipe, spec, wanted.get("H"), wanted.get("W"))


def _input(name: str | None, inputs: Sequence[TensorSpec]) -> TensorSpec:
    return next((spec for spec in inputs if spec.name == name), inputs[0])


def _check_datatype(recipe: Preprocessing, spec: TensorSpec) -> None:
    datatype = spec.datatype.name
    if datatype not in ("UINT8", *FLOATS):
        raise _refused(f"gives UINT8, FP16, FP32 or FP64; `{spec.name}` is {datatype}")
    steps = [step for step in ("rescale", "mean", "std") if getattr(recipe, step) is not None]
    if datatype == "UINT8" and steps:
        raise _refused(f"has {', '.join(steps)}, which give fractions; `{spec.name}` is UINT8")


def _check_features(recipe: Preprocessing, spec: TensorSpec, features: int | None) -> None:
    if features is None or recipe.size is None:
        return
    height, width = recipe.size
    if height * width * recipe.channels != features:
        count = f"{height} x {width} x {recipe.channels} = {height * width * recipe.channels}"
        raise _refused(f"gives {count} features; `{spec.name}` takes {features}")


def _sized(recipe: Preprocessing, spec: TensorSpec, height: int | None, width: int | None) -> ImageInput:
    if recipe.size:
        if height not in (None, recipe.size[0]) or width not in (None, recipe.size[1]):
            given = f"{recipe.size[0]} x {recipe.size[1]} (height x width)"
            raise _refused(f"gives images of {given}; `{spec.name}` is {list(spec.shape)}")
        return ImageInput(recipe, spec, *recipe.size)
    edge = recipe.resize.shortest_edge if recipe.resize else None
    if edge and height and width and edge != min(height, width):
        raise _refused(f"makes the shortest edge {edge}; `{spec.name}` is {list(spec.shape)}; add center_crop")
    return ImageInput(recipe, spec, height, width)


def _refused(words: str) -> StartRefused:
    return StartRefused(f"the manifest's predict.preprocessing {words}")

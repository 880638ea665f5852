"""`services.<name>.model.predict`: the tensors that `/predict` speaks of, the names of classes, the way of images."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.config.section import Section

Side = Annotated[int, Field(ge=1, le=4096)]
CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}


def _fraction(value: object) -> object:
    """`1/255` is how everybody writes it, and no number of YAML."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)", value) if isinstance(value, str) else None
    if parts and float(parts[2]):
        return float(parts[1]) / float(parts[2])
    return value


class Resize(Section):
    """To `size` (height, width) whatever the shape was, or so that the shorter side has `shortest_edge` pixels."""

    size: tuple[Side, Side] | None = None
    shortest_edge: Side | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    @model_validator(mode="after")
    def _one_of_two(self) -> Resize:
        if (self.size is None) == (self.shortest_edge is None):
            raise ValueError("needs either size: [height, width] or shortest_edge: pixels")
        return self


class Preprocessing(Section):
    """From an image to a row of the input, in the order of torchvision; a step that is not named is left out."""

    layout: Literal["NCHW", "NHWC", "flat"]
    color: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Resize | None = None
    center_crop: tuple[Side, Side] | None = None
    rescale: Annotated[float, BeforeValidator(_fraction), Field(gt=0, allow_inf_nan=False)] | None = None
    mean: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None

    @model_validator(mode="after")
    def _one_number_for_each_channel(self) -> Preprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"{name} has {len(values)} numbers, and {self.color} has {self.channels} channels; give each one"
                )
        return self

    @property
    def channels(self) -> int:
        return CHANNELS[self.color]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every image after the steps, where the steps alone decide them."""
        return self.center_crop or (self.resize.size if self.resize else None)


class Predict(Section):
    """What is left out is taken from the model's own signature. `labels` are names, or a file of them."""

    input: str | None = None
    label: str | None = None
    probabilities: str | None = None
    activation: Literal["softmax", "none"] | None = None
    labels: list[str] | str | None = None
    preprocessing: Preprocessing | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_texts(cls, value: object) -> object:
        is_list = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
        if value is None or isinstance(value, str) or is_list:
            return value
        raise ValueError("takes a list of names, or the name of a file; names such as 1, yes and null need quotes")

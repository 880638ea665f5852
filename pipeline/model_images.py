"""`model.predict.preprocessing`, checked against the model: what no image could ever fit is refused before it ships.

The server holds a manifest to the same rules when it starts (model_service/images/recipe.py).
"""

from __future__ import annotations

from pipeline.config import Predict, Preprocessing
from pipeline.errors import ConfigError
from pipeline.results import Signature, TensorSpec

KEY = "services.<name>.model.predict.preprocessing"
AXES = {"NCHW": ("C", "H", "W"), "NHWC": ("H", "W", "C"), "flat": ("features",)}
FLOATS = ("FP16", "FP32", "FP64")


def check_preprocessing(predict: Predict, signature: Signature) -> None:
    """Raise ConfigError where the recipe, if there is one, cannot fill the model's input."""
    recipe = predict.preprocessing
    if recipe is None:
        return
    if len(signature.inputs) > 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise ConfigError(
            f"{KEY} fills one input, and the model has {len(signature.inputs)}: {names}.",
            "read the request in a service.py of yours, or export the model with one input",
        )
    spec = signature.inputs[0]
    _check_datatype(recipe, spec)
    _check_axes(recipe, spec)


def suggested(signature: Signature) -> dict[str, object]:
    """Layout, channels and size of the only input where it looks like images, [N,C,H,W] or [N,H,W,C]; else empty.

    A side that the model leaves open is 224, which most image models are trained with.
    """
    shapes = [spec.shape for spec in signature.inputs if spec.datatype in ("UINT8", *FLOATS)]
    if len(signature.inputs) != 1 or not shapes or len(shapes[0]) != 4:
        return {}
    for layout, axes in (("NCHW", AXES["NCHW"]), ("NHWC", AXES["NHWC"])):
        sizes = dict(zip(axes, shapes[0][1:], strict=True))
        if sizes["C"] in (1, 3):
            height, width = (sizes[axis] if sizes[axis] > 0 else 224 for axis in ("H", "W"))
            is_float = signature.inputs[0].datatype in FLOATS
            return {"layout": layout, "channels": sizes["C"], "height": height, "width": width, "is_float": is_float}
    return {}


def _check_datatype(recipe: Preprocessing, spec: TensorSpec) -> None:
    if spec.datatype not in ("UINT8", *FLOATS):
        raise ConfigError(
            f"{KEY} gives UINT8, FP16, FP32 or FP64; the input `{spec.name}` is {spec.datatype}.",
            "export the model with an input of floats, or remove `preprocessing`",
        )
    steps = [step for step in ("rescale", "mean", "std") if getattr(recipe, step) is not None]
    if spec.datatype == "UINT8" and steps:
        raise ConfigError(
            f"{KEY} has {', '.join(steps)}, which give fractions; the input `{spec.name}` is UINT8.",
            f"remove {', '.join(steps)}: such a model does them itself",
        )


def _check_axes(recipe: Preprocessing, spec: TensorSpec) -> None:
    axes, shape = AXES[recipe.layout], list(spec.shape)
    if len(shape) != len(axes) + 1:
        raise ConfigError(
            f"{KEY}.layout is {recipe.layout}, which has {len(axes) + 1} axes; the input `{spec.name}` is {shape}.",
            "set it to NCHW, NHWC or flat, as the input's shape is",
        )
    sizes = dict(zip(axes, shape[1:], strict=True))
    if sizes.get("C", -1) not in (-1, recipe.channels):
        raise ConfigError(
            f"{KEY}: {recipe.color} has {recipe.channels} channels, and {recipe.layout} finds {sizes['C']} in the "
            f"input `{spec.name}` {shape}.",
            "correct `color` (RGB, BGR or L) or `layout`",
        )
    if misfit := _misfit(recipe, sizes):
        raise ConfigError(
            f"{KEY} makes {misfit}; the input `{spec.name}` is {shape}.",
            "correct `resize.size`, or add `center_crop` with the input's height and width",
        )


def _misfit(recipe: Preprocessing, sizes: dict[str, int]) -> str:
    """What the steps make, in words, where the input takes another size; else empty. -1 takes any."""
    if recipe.size:
        height, width = recipe.size
        made = {"H": height, "W": width, "features": height * width * recipe.channels}
        fits = all(sizes.get(axis, -1) in (-1, size) for axis, size in made.items())
        return "" if fits else f"images of {height} x {width} (height x width) with {recipe.channels} numbers a pixel"
    edge = recipe.resize.shortest_edge if recipe.resize else None
    shortest = min(sizes.get("H", -1), sizes.get("W", -1))
    return f"images with a shortest edge of {edge}" if edge and shortest not in (-1, edge) else ""

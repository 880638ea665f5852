"""`model.predict`: what onnxship.yaml may say of images and classes, and what fits which model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from model_service.errors import StartRefused
from model_service.images.recipe import Preprocessing as Declared
from model_service.images.recipe import fit
from model_service.tensors import BY_NAME
from model_service.tensors import TensorSpec as ServerSpec
from pipeline import config as configuration
from pipeline.config import Predict
from pipeline.errors import ConfigError
from pipeline.model_images import check_preprocessing
from pipeline.model_labels import doubt, load_labels, named
from pipeline.results import Signature, TensorSpec
from pipeline.stages.init import init
from pipeline.stages.publish import prepare, write_local
from tests.pipeline.conftest import SERVICE, Configure, golden_rows

IMAGENET = {"layout": "NCHW", "resize": {"shortest_edge": 256}, "center_crop": [224, 224], "rescale": "1/255"}


def signature(*shape: int, datatype: str = "FP32", outputs: tuple[TensorSpec, ...] = ()) -> Signature:
    scores = outputs or (TensorSpec("scores", "FP32", (-1, 3)),)
    return Signature((TensorSpec("x", datatype, shape),), scores, 10, 22)


@pytest.mark.parametrize(("written", "read"), [("1/255", 1 / 255), ("1 / 127.5", 1 / 127.5), (0.5, 0.5), (None, None)])
def test_rescale_may_be_written_as_a_fraction(configure: Configure, written: Any, read: float | None) -> None:
    """As every recipe of images has it."""
    config = configure(model__predict__preprocessing={"layout": "NCHW", "rescale": written})

    recipe = config.services[SERVICE].model.predict.preprocessing
    assert recipe is not None
    assert read == recipe.rescale


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        ({"preprocessing": {}}, "preprocessing.layout: is missing"),
        (
            {"preprocessing": {"layout": "CHW"}},
            "preprocessing.layout: must be `NCHW`, `NHWC` or `flat` (found 'CHW')",
        ),
        ({"preprocessing": {"layout": "NCHW", "normalize": True}}, "preprocessing.normalize: is not a known key"),
        (
            {"preprocessing": {"layout": "NCHW", "resize": {}}},
            "preprocessing.resize: needs either size: [height, width]",
        ),
        (
            {"preprocessing": {"layout": "NCHW", "rescale": "1/0"}},
            "preprocessing.rescale: must be a number (found '1/0')",
        ),
        ({"preprocessing": {"layout": "NCHW", "mean": [0.5]}}, "preprocessing: mean has 1 numbers, and RGB has 3"),
        (
            {"preprocessing": {"layout": "NCHW", "std": [1, 0, 1]}},
            "preprocessing.std.1: must be above 0 (found 0)",
        ),
        ({"labels": [0, 1]}, "labels: takes a list of names, or the name of a file"),
        ({"labels": []}, "labels: takes a list of names, or the name of a file"),
        ({"activation": "sigmoid"}, "activation: must be `softmax` or `none` (found 'sigmoid')"),
    ],
)
def test_a_mistake_is_told_with_its_path(configure: Configure, predict: dict[str, Any], words: str) -> None:
    """Before anything is read of the model."""
    with pytest.raises(ConfigError) as caught:
        configure(model__predict=predict)

    assert [f"services.tiny.model.predict.{words}"] == [
        line[: len(f"services.tiny.model.predict.{words}")] for line in caught.value.details
    ]


@pytest.mark.parametrize(
    ("preprocessing", "given", "words"),
    [
        (IMAGENET, signature(-1, 3, 299, 299), "makes images of 224 x 224 (height x width)"),
        (IMAGENET | {"center_crop": None}, signature(-1, 3, 224, 224), "makes images with a shortest edge of 256"),
        (IMAGENET | {"color": "L"}, signature(-1, 3, 224, 224), "L has 1 channels, and NCHW finds 3"),
        (IMAGENET | {"layout": "NHWC"}, signature(-1, 3, 224, 224), "RGB has 3 channels, and NHWC finds 224"),
        (IMAGENET, signature(-1, 64), "layout is NCHW, which has 4 axes; the input `x` is [-1, 64]"),
        (IMAGENET, signature(-1, 3, 224, 224, datatype="INT64"), "the input `x` is INT64"),
        (IMAGENET, signature(-1, 3, 224, 224, datatype="UINT8"), "has rescale, which give fractions"),
        ({"layout": "flat", "center_crop": [8, 8]}, signature(-1, 64), "makes images of 8 x 8"),
        ({"layout": "flat"}, Signature((TensorSpec("a", "FP32", (-1, 2)),) * 2, (), 10, 22), "the model has 2: a, a"),
    ],
)
def test_a_recipe_that_can_never_fit_is_refused(preprocessing: dict[str, Any], given: Signature, words: str) -> None:
    """With the input's shape, and one thing to do."""
    with pytest.raises(ConfigError) as caught:
        check_preprocessing(Predict.model_validate({"preprocessing": preprocessing}), given)

    assert words in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("preprocessing", "given"),
    [
        (None, signature(-1, 64)),
        (IMAGENET, signature(-1, 3, 224, 224)),
        (IMAGENET, signature(-1, 3, -1, -1, datatype="FP16")),
        ({"layout": "NHWC", "resize": {"shortest_edge": 8}}, signature(-1, -1, 8, 3)),
        ({"layout": "flat", "color": "L", "resize": {"size": [8, 8]}}, signature(-1, 64)),
    ],
)
def test_a_recipe_that_fits_passes(preprocessing: dict[str, Any] | None, given: Signature) -> None:
    """Axes that the model leaves open take whatever comes."""
    check_preprocessing(Predict.model_validate({"preprocessing": preprocessing}), given)


RECIPES: list[dict[str, Any]] = [
    {"layout": layout, "color": color, **steps}
    for layout in ("NCHW", "NHWC", "flat")
    for color in ("RGB", "L")
    for steps in (
        {},
        {"rescale": 0.5},
        {"resize": {"size": [8, 4]}},
        {"resize": {"shortest_edge": 8}},
        {"resize": {"shortest_edge": 8}, "center_crop": [8, 8]},
    )
]
SHAPES = [
    *itertools.product((-1,), (3, -1), (8, -1), (4, 8, -1)),
    *itertools.product((-1,), (8, -1), (8, -1), (3, 1)),
    *[(-1, features) for features in (-1, 32, 64, 192)],
    (-1,),
]


@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "INT64"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(map(str, recipe.values())))
def test_the_server_starts_with_what_publish_lets_through(recipe: dict[str, Any], datatype: str) -> None:
    """And with nothing else: both hold a recipe to the same rules, each in its own words."""
    declared, predict = msgspec.convert(recipe, Declared), Predict.model_validate({"preprocessing": recipe})
    for shape in SHAPES:
        given = ServerSpec("x", BY_NAME[datatype], tuple(size if size > 0 else None for size in shape))

        starts = refuses(StartRefused, lambda given=given: fit(declared, "x", [given]))
        published = refuses(
            ConfigError, lambda shape=shape: check_preprocessing(predict, signature(*shape, datatype=datatype))
        )

        assert starts == published, shape


def refuses(error: type[Exception], act: Callable[[], object]) -> bool:
    try:
        act()
    except error:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "red\ngreen \nblue\n\n"),
        ("labels.json", '["red", "green", "blue"]'),
        ("labels.json", '{"2": "blue", "0": "red", "1": "green"}'),
        ("config.json", '{"id2label": {"0": "red", "1": "green", "2": "blue"}, "model_type": "resnet"}'),
    ],
)
def test_labels_are_taken_as_people_have_them(configure: Configure, tmp_path: Path, name: str, content: str) -> None:
    """A line each, a JSON list, Hugging Face's id2label: the release has one list of them, beside the model."""
    (tmp_path / name).write_text(content)
    config = configure(model__predict={"labels": name})

    manifest = json.loads((path := write_local(config, SERVICE, tmp_path / "local")).read_text())

    assert ["model.onnx", "labels.json"] == [file["name"] for file in manifest["files"]]
    assert "labels.json" == manifest["predict"]["labels"]
    assert ["red", "green", "blue"] == json.loads((path.parent / "labels.json").read_text())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"", "label 0 is empty"),
        (b"red\n\nblue\n", "label 1 is empty"),
        (b"red\ngreen\n", "has 2 names; the output `scores` has 3 classes"),
    ],
)
def test_labels_that_do_not_do_are_refused(
    configure: Configure, tmp_path: Path, content: bytes | None, words: str
) -> None:
    """Missing, not text, with a gap, too few."""
    if content is not None:
        (tmp_path / "l.txt").write_bytes(content)
    predict = Predict(labels="l.txt", probabilities="scores")

    with pytest.raises(ConfigError) as caught:
        load_labels(configure().file, predict, signature(-1, 4))

    assert words in caught.value.what


@pytest.mark.parametrize("content", ["[1]", '{"1": "a"}', "{", '"a"'])
def test_json_that_is_no_list_of_names_is_refused(configure: Configure, tmp_path: Path, content: str) -> None:
    """An object must have every index from 0."""
    (tmp_path / "l.json").write_text(content)

    with pytest.raises(ConfigError, match=r"l\.json (is not JSON|holds neither)"):
        load_labels(configure().file, Predict(labels="l.json", probabilities="scores"), signature(-1, 4))


@pytest.mark.parametrize(
    ("predict", "outputs", "words"),
    [
        ({"activation": "softmax"}, (), "no output of the model is taken for its scores"),
        ({"labels": ["a"]}, (), "no output that they could name"),
        ({"labels": ["a"], "label": "y"}, (TensorSpec("y", "BYTES", (-1,)),), "no output that they could name"),
    ],
)
def test_classes_need_an_output(configure: Configure, predict: Any, outputs: Any, words: str) -> None:
    """Names and an activation are of something."""
    with pytest.raises(ConfigError, match=words):
        load_labels(configure().file, Predict.model_validate(predict), signature(-1, 4, outputs=outputs))


def test_logits_that_are_called_probabilities_are_told(configure: Configure) -> None:
    """With their range and what to set; nothing is said once an activation is set."""
    scores = {"scores": np.float32([[-2, 5]])}

    assert "goes from -2 to 5; set services.<name>.model.predict.activation" in doubt(
        Predict(probabilities="scores"), scores
    )
    assert "" == doubt(Predict(probabilities="scores", activation="none"), scores)
    assert "" == doubt(Predict(probabilities="scores"), {"scores": np.float32([[0.2, 0.8]])})


def test_quality_is_measured_by_names_where_the_golden_labels_are_names(configure: Configure, tmp_path: Path) -> None:
    """`expected` may hold what people call the classes."""
    rows, names = golden_rows(), np.array(["red", "green", "blue"])
    np.savez(tmp_path / "golden.npz", X=rows["X"], expected=names[rows["expected"]])
    config = configure(model__predict={"labels": names.tolist()})

    quality = prepare(config.services[SERVICE].model, config.file).quality

    assert quality is not None
    assert 1.0 == quality.value
    predict = Predict(label="label")
    assert ["blue", "red"] == named(predict, tuple(names.tolist()), {"label": np.array([2, 0])}).tolist()


def test_the_manifest_has_what_is_given_and_else_is_as_before(configure: Configure, tmp_path: Path) -> None:
    """A model without images and labels keeps its manifest's bytes, and with them its key."""
    plain = json.loads(write_local(configure(), SERVICE, tmp_path / "plain").read_text())
    recipe = {"layout": "flat", "color": "L", "resize": {"size": [2, 2]}, "rescale": "1/255"}
    given = configure(model__predict={"labels": ["a", "b", "c"], "activation": "softmax", "preprocessing": recipe})

    full = json.loads(write_local(given, SERVICE, tmp_path / "full").read_text())

    names = {"input": "X", "label": "label", "probabilities": "probabilities"}
    assert names == plain["predict"]
    resize = {"size": [2, 2], "interpolation": "bilinear"}
    assert (
        names
        | {
            "activation": "softmax",
            "labels": ["a", "b", "c"],
            "preprocessing": recipe | {"resize": resize, "rescale": 1 / 255},
        }
        == full["predict"]
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (signature(-1, 3, 32, 48), {"layout": "NCHW", "size": (32, 48), "color": "RGB", "rescale": 1 / 255}),
        (signature(-1, -1, -1, 3), {"layout": "NHWC", "size": (224, 224), "color": "RGB", "rescale": 1 / 255}),
        (signature(-1, 1, 28, 28), {"layout": "NCHW", "size": (28, 28), "color": "L", "rescale": 1 / 255}),
        (signature(-1, 8, 8, 3, datatype="UINT8"), {"layout": "NHWC", "size": (8, 8), "color": "RGB", "rescale": None}),
    ],
)
def test_init_suggests_a_recipe_for_images(tmp_path: Path, given: Signature, expected: dict[str, Any]) -> None:
    """As a comment: without its # it is a configuration that fits the model."""
    where = {"directory": tmp_path, "name": "tiny", "account": "111122223333", "region": "eu-west-1"}
    init(Path("m.onnx"), given, lambda _: None, data=None, **where)
    file = tmp_path / "onnxship.yaml"
    assert configuration.load(file).services["tiny"].model.predict.preprocessing is None

    lines = file.read_text().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.strip() == "# predict:")
    end = next(number for number, line in enumerate(lines) if "activation" in line)
    lines[start : end + 1] = [line.replace("# ", "", 1) for line in lines[start : end + 1]]
    file.write_text("".join(lines))

    predict = configuration.load(file).services["tiny"].model.predict
    recipe = predict.preprocessing
    assert recipe is not None
    assert expected == {"layout": recipe.layout, "size": recipe.size, "color": recipe.color, "rescale": recipe.rescale}
    assert ("labels.txt", "softmax") == (predict.labels, predict.activation)
    check_preprocessing(predict, given)


def test_init_suggests_nothing_for_a_table(tmp_path: Path) -> None:
    """Rows of features are no images."""
    where = {"directory": tmp_path, "name": "tiny", "account": "111122223333", "region": "eu-west-1"}
    init(Path("m.onnx"), signature(-1, 64), lambda _: None, data=None, **where)

    assert "preprocessing" not in (tmp_path / "onnxship.yaml").read_text()

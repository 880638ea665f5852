"""`init`: labelled rows become golden inputs in the model's own shape and type, or are refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config
from pipeline.errors import ConfigError, UsageError
from pipeline.results import Initialised, Quality, Signature, TensorSpec
from pipeline.stages.init import init, read_labelled

ONE_INPUT = Signature((TensorSpec("X", "FP32", (-1, 2)),), (TensorSpec("label", "INT64", (-1,)),), 10, 22)
TWO_INPUTS = Signature((TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,))), (), 10, 22)


def csv(path: Path, header: str, row: str, rows: int = 40) -> Path:
    path.write_text("\n".join([header, *[row] * rows]) + "\n")
    return path


def written(directory: Path, signature: Signature, **options: Any) -> Initialised:
    """What `init` writes for a model that nobody measured, unless `measure` is given."""
    model, measure = options.pop("model", Path("m.onnx")), options.pop("measure", lambda _: None)
    where = {"directory": directory, "name": "tiny", "account": "111122223333", "region": "eu-west-1"}
    return init(model, signature, measure, **({"data": None} | where | options))


def test_a_csv_gives_features_in_order_and_the_last_column_as_label(tmp_path: Path) -> None:
    """Features in the model's dtype, labels as whole numbers where they are."""
    arrays = read_labelled(csv(tmp_path / "d.csv", "f1,f2,kind", "1.5,2,3"), ONE_INPUT)

    assert ("float32", (40, 2), [1.5, 2.0]) == (arrays["X"].dtype, arrays["X"].shape, arrays["X"][0].tolist())
    assert 3 == arrays["expected"][0]


def test_a_named_label_column_may_stand_anywhere(tmp_path: Path) -> None:
    """`label`, `target`, `y` and the like."""
    arrays = read_labelled(csv(tmp_path / "d.csv", "label,f1,f2", "cat,1,2"), ONE_INPUT)

    assert ([1.0, 2.0], "cat") == (arrays["X"][0].tolist(), arrays["expected"][0])


def test_an_npz_has_an_array_for_each_input(tmp_path: Path) -> None:
    """Cast to the model's types; labels under `y` become `expected`."""
    np.savez(tmp_path / "d.npz", a=np.ones((40, 2)), b=np.arange(40), y=np.arange(40))

    arrays = read_labelled(tmp_path / "d.npz", TWO_INPUTS)

    assert {"a": "float32", "b": "int64", "expected": "int64"} == {k: str(v.dtype) for k, v in arrays.items()}


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("f1,f2,kind", "1,red,3", "not a finite number"),
        ("f1,f2,f3,kind", "1,2,3,4", r"shape \[40, 3\]"),
    ],
)
def test_a_csv_that_does_not_fit_the_model_is_refused(tmp_path: Path, header: str, row: str, says: str) -> None:
    """Missing cells, words among features, a column too many."""
    with pytest.raises(ConfigError, match=says):
        read_labelled(csv(tmp_path / "d.csv", header, row), ONE_INPUT)


def test_a_csv_for_two_inputs_is_refused(tmp_path: Path) -> None:
    """A table can hold one tensor."""
    with pytest.raises(UsageError, match="2 inputs"):
        read_labelled(csv(tmp_path / "d.csv", "a,b,y", "1,2,3"), TWO_INPUTS)


def test_an_npz_without_an_input_lists_what_it_has(tmp_path: Path) -> None:
    """The model's own names are needed."""
    np.savez(tmp_path / "d.npz", a=np.ones((40, 2)), c=np.ones(40))

    with pytest.raises(ConfigError, match="no array `b`; it has a, c"):
        read_labelled(tmp_path / "d.npz", TWO_INPUTS)


def test_a_broken_npz_is_refused(tmp_path: Path) -> None:
    """Any other file under that name."""
    (tmp_path / "d.npz").write_bytes(b"not a zip")

    with pytest.raises(ConfigError, match=r"not a readable \.npz"):
        read_labelled(tmp_path / "d.npz", ONE_INPUT)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["1,2,3"] * 40, "only numbers"),
        (["f1;f2;kind", *["1;2;3"] * 40], "separates its columns with ';'"),
        (["f1", *["1"] * 40], "one column"),
        (["f1,f2,kind", "1,2,3", "1,2", *["1,2,3"] * 40], "line 3: 2 cells under a header of 3"),
        (["f1,f2,kind", *["1,2,3"] * 3, "1,,3"], "line 5: column `f2` is empty"),
        (["f1,f2,kind", "1,NA,3"], "line 2: column `f2` holds `NA`"),
        (["f1,f2,kind", "1,1e400,3"], "line 2: column `f2` holds `1e400`, not a finite number"),
        (["f1,f2,kind", "1,2,"], "line 2: the label is empty"),
        (["f1,f2,kind", "1,2,3", "1,2,nan"], "line 3: the label is `nan`"),
        ([""], "is empty"),
    ],
)
def test_what_is_no_table_is_refused_by_line_and_column(tmp_path: Path, lines: list[str], says: str) -> None:
    """A person finds the cell."""
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")

    with pytest.raises(ConfigError) as caught:
        read_labelled(tmp_path / "d.csv", ONE_INPUT)

    assert says in caught.value.what


def test_blank_lines_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    (tmp_path / "d.csv").write_bytes(("\ufefff1,f2,kind\n" + "1,2,3\n" * 40 + "\n\n").encode())

    assert 40 == len(read_labelled(tmp_path / "d.csv", ONE_INPUT)["X"])


FIXED_TO_8, SCALAR = (Signature((TensorSpec("X", "FP32", shape),), (), 10, 22) for shape in ((8, 2), ()))


@pytest.mark.parametrize(("signature", "says"), [(FIXED_TO_8, "is fixed to 8"), (SCALAR, "is a scalar")])
def test_a_model_that_takes_no_rows_is_not_judged(tmp_path: Path, signature: Signature, says: str) -> None:
    """With labelled rows it is refused before anything is written."""
    with pytest.raises(ConfigError, match=says):
        written(tmp_path / "new", signature, data=csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3"))

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("signature", "says"), [(FIXED_TO_8, "is fixed to 8"), (SCALAR, "is a scalar")])
def test_a_model_that_takes_no_rows_can_still_be_served(tmp_path: Path, signature: Signature, says: str) -> None:
    """Without data there is a configuration for `serve`, and a notice that no more is possible, in it too."""
    lines: list[str] = []

    written(tmp_path, signature, on_progress=lines.append)

    config.load(tmp_path / "onnxship.yaml")
    assert "m.onnx can be served, not shipped: input `X`" in lines[0]
    assert says in lines[0]
    assert says in (tmp_path / "onnxship.yaml").read_text()


def test_a_batch_of_one_is_taken(tmp_path: Path) -> None:
    """Its rows are judged one by one."""
    one_row = Signature((TensorSpec("X", "FP32", (1, 2)),), (), 10, 22)

    written(tmp_path, one_row, data=csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3"))

    assert (40, 2) == np.load(tmp_path / "golden.npz")["X"].shape


def test_what_publish_would_refuse_leaves_nothing_behind(tmp_path: Path) -> None:
    """A second `init` is not in the way of itself."""

    def refuse(path: Path) -> Quality | None:
        raise ConfigError("labels do not fit", "correct them")

    with pytest.raises(ConfigError, match="labels do not fit"):
        written(tmp_path / "new", ONE_INPUT, data=csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3"), measure=refuse)

    assert not (tmp_path / "new").exists()


def test_what_to_type_next_begins_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other commands look for onnxship.yaml in the directory that they are called in."""
    monkeypatch.chdir(tmp_path)

    there = written(Path("my model"), ONE_INPUT).next_commands
    here = written(tmp_path, ONE_INPUT).next_commands

    assert ("cd 'my model'", *here) == there
    assert "onnxship serve" == here[0]


def test_the_floor_is_what_the_model_reaches_less_a_little(tmp_path: Path) -> None:
    """A model like today's passes; a much worse one does not."""
    data = csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3")
    written(tmp_path, ONE_INPUT, data=data, measure=lambda _: Quality("accuracy", 0.8567, 0.0, 40))

    quality = config.load(tmp_path / "onnxship.yaml").services["tiny"].model.quality
    assert quality is not None
    assert 0.83 == quality.at_least


@pytest.mark.parametrize(
    ("accuracy", "told"),
    [(0.3, True), (0.5, True), (0.525, False)],
)
def test_a_model_no_better_than_the_commonest_label_is_doubted(tmp_path: Path, accuracy: float, told: bool) -> None:
    """Said aloud and in the file, with both numbers: columns in another order look like this."""
    np.savez(tmp_path / "d.npz", X=np.ones((40, 2)), expected=[1] * 20 + [0, 2] * 10)
    lines: list[str] = []

    measured = Quality("accuracy", accuracy, 0.0, 40)
    written(tmp_path, ONE_INPUT, data=tmp_path / "d.npz", measure=lambda _: measured, on_progress=lines.append)

    doubt = (
        f"the model gets {accuracy:.4f} of the labels right; always saying `1`, the commonest, gets 0.5000: "
        "are the columns in the model's order?"
    )
    assert ([f"Warning: {doubt}"] if told else []) == lines
    assert told == (doubt in (tmp_path / "onnxship.yaml").read_text())
    config.load(tmp_path / "onnxship.yaml")


def test_a_model_that_says_none_of_the_labels_is_doubted_for_how_they_are_written(tmp_path: Path) -> None:
    """Classes counted from 1 for a model that counts from 0 look like this."""
    lines: list[str] = []
    np.savez(tmp_path / "d.npz", X=np.ones((40, 2)), expected=[1, 2] * 20)

    none = Quality("accuracy", 0.0, 0.0, 40)
    written(tmp_path, ONE_INPUT, data=tmp_path / "d.npz", measure=lambda _: none, on_progress=lines.append)

    assert [True] == [line.endswith("are they written as the model says them?") for line in lines]


def test_rows_of_one_label_are_doubted(tmp_path: Path) -> None:
    """Nothing is better than always saying it."""
    lines: list[str] = []
    data = csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3")

    written(tmp_path, ONE_INPUT, data=data, measure=lambda _: Quality("accuracy", 1.0, 0, 40), on_progress=lines.append)

    assert ["Warning: every row has the label `3`: a model that always says it passes"] == lines


def test_the_file_that_init_writes_is_a_valid_configuration(tmp_path: Path) -> None:
    """With data and without; the model's path is relative where it lies below the file."""
    data = csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3")

    written(tmp_path / "a", ONE_INPUT, data=data, measure=lambda _: Quality("accuracy", 0.95, 0.0, 40))
    written(tmp_path, ONE_INPUT, model=tmp_path / "models" / "m.onnx")

    with_data, without = config.load(tmp_path / "a/onnxship.yaml"), config.load(tmp_path / "onnxship.yaml")
    assert with_data.services["tiny"].model.quality is not None
    assert without.services["tiny"].model.quality is None
    assert "models/m.onnx" == without.services["tiny"].model.path

"""`init`: labelled rows become golden inputs in the model's own shape and type, or are refused by name."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import config
from pipeline.errors import ConfigError, UsageError
from pipeline.results import Signature, TensorSpec
from pipeline.stages.init import init, read_labelled

ONE_INPUT = Signature((TensorSpec("X", "FP32", (-1, 2)),), (TensorSpec("label", "INT64", (-1,)),), 10, 22)
TWO_INPUTS = Signature((TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,))), (), 10, 22)


def csv(path: Path, header: str, row: str, rows: int = 40) -> Path:
    path.write_text("\n".join([header, *[row] * rows]) + "\n")
    return path


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
        ("f1,f2,kind", "1,,3", "not a number"),
        ("f1,f2,kind", "1,red,3", "not a number"),
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

    with pytest.raises(ConfigError, match="cannot be read"):
        read_labelled(tmp_path / "d.npz", ONE_INPUT)


def test_the_file_that_init_writes_is_a_valid_configuration(tmp_path: Path) -> None:
    """With data and without; the model's path is relative where it lies below the file."""
    model = tmp_path / "models" / "m.onnx"
    data = csv(tmp_path / "d.csv", "f1,f2,kind", "1,2,3")
    common = {"name": "tiny", "account": "111122223333", "region": "eu-west-1"}

    init(model, ONE_INPUT, data=data, directory=tmp_path / "a", **common)
    init(model, ONE_INPUT, data=None, directory=tmp_path, **common)

    with_data, without = config.load(tmp_path / "a/onnxship.yaml"), config.load(tmp_path / "onnxship.yaml")
    assert with_data.services["tiny"].model.quality is not None
    assert without.services["tiny"].model.quality is None
    assert "models/m.onnx" == without.services["tiny"].model.path

"""The model and its golden inputs, judged and stored."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.errors import ConfigError, GateRefused, UsageError
from pipeline.example_request import example_request
from pipeline.results import Quality
from pipeline.stages.publish import publish, write_local
from pipeline.waiting import FakeClock
from tests.pipeline.conftest import SERVICE, Configure, golden_rows, tiny_onnx

pytestmark = pytest.mark.usefixtures("registry_stack")


def read(aws: Aws, bucket: str, key: str, version_id: str) -> bytes:
    answer = aws.call("s3", "get_object", Bucket=bucket, Key=key, VersionId=version_id)
    return bytes(answer["Body"].read())


def test_the_manifest_pins_every_file(config: Config, aws: Aws, clock: FakeClock, project: Path) -> None:
    """What publish returns leads to a manifest, and the manifest to files whose content has the sha256 it names."""
    published = publish(config, aws, clock, service=SERVICE)

    content = read(aws, published.bucket, published.manifest_key, published.manifest_version_id)
    manifest = json.loads(content)
    assert published.manifest_sha256 == hashlib.sha256(content).hexdigest()
    assert f"models/tiny/{published.manifest_sha256}/manifest.json" == published.manifest_key
    for file in (*manifest["files"], manifest["golden"]):
        stored = read(aws, published.bucket, file["key"], file["version_id"])
        assert (file["sha256"], file["size_bytes"]) == (hashlib.sha256(stored).hexdigest(), len(stored))
    assert (project / "model.onnx").read_bytes() == read(
        aws, published.bucket, manifest["files"][0]["key"], manifest["files"][0]["version_id"]
    )


def test_the_manifest_says_what_the_model_takes_and_gives(config: Config, aws: Aws, clock: FakeClock) -> None:
    """The manifest holds the signature, the tensors of /predict and the tolerance, in the agreed format."""
    published = publish(config, aws, clock, service=SERVICE)

    manifest = json.loads(read(aws, published.bucket, published.manifest_key, published.manifest_version_id))
    files = [manifest.pop("files"), manifest.pop("golden"), manifest.pop("onnxruntime")]
    assert all(files)
    assert manifest == {
        "format": "onnxship.model/1",
        "name": "tiny",
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        ],
        "predict": {"input": "X", "label": "label", "probabilities": "probabilities"},
        "tolerance": {"rtol": 1e-3, "atol": 1e-5},
        "ir_version": 10,
        "opset": 17,
    }


def test_published_golden_holds_the_runtimes_own_answers(config: Config, aws: Aws, clock: FakeClock) -> None:
    """golden.npz in S3 has the inputs, the labels and ONNX Runtime's outputs."""
    published = publish(config, aws, clock, service=SERVICE)

    manifest = json.loads(read(aws, published.bucket, published.manifest_key, published.manifest_version_id))
    golden = manifest["golden"]
    with np.load(io.BytesIO(read(aws, published.bucket, golden["key"], golden["version_id"]))) as archive:
        assert {"X", "expected", "output:label", "output:probabilities"} == set(archive.files)
        np.testing.assert_array_equal(golden_rows()["expected"], archive["output:label"])


def test_the_same_model_again_is_the_same_pin(config: Config, aws: Aws, clock: FakeClock) -> None:
    """A second publish stores nothing and returns the first one's VersionIds."""
    first = publish(config, aws, clock, service=SERVICE)
    second = publish(config, aws, clock, service=SERVICE)

    assert (first.reused, second.reused) == (False, True)
    assert first.manifest_version_id == second.manifest_version_id
    versions = aws.call("s3", "list_object_versions", Bucket=first.bucket)["Versions"]
    assert len({version["Key"] for version in versions}) == len(versions)


def test_quality_is_measured_on_the_users_labels(config: Config, aws: Aws, clock: FakeClock) -> None:
    """The tiny classifier is right on all its rows."""
    published = publish(config, aws, clock, service=SERVICE)

    assert Quality("accuracy", 1.0, 0.9, 40) == published.quality


def test_a_model_that_learned_nothing_is_refused(config: Config, aws: Aws, clock: FakeClock, project: Path) -> None:
    """Quality below its floor is a gate's refusal with the figures, and nothing is stored."""
    onnx.save(tiny_onnx(weights=-np.eye(4, 3, dtype=np.float32)), project / "model.onnx")

    with pytest.raises(GateRefused, match=r"accuracy 0\.\d+ on 40 rows is below 0\.9"):
        publish(config, aws, clock, service=SERVICE)

    assert "Versions" not in aws.call("s3", "list_object_versions", Bucket="demo-test-artifacts")


def naming(names: list[str]) -> onnx.ModelProto:
    """The tiny classifier with its label as one of three names."""
    model = tiny_onnx()
    graph = model.graph
    graph.initializer.append(onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [3], names))
    graph.node[-1].output[0] = "index"
    graph.node.append(onnx.helper.make_node("Gather", ["names", "index"], ["label"]))
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    return model


@pytest.mark.parametrize(
    ("model", "expected", "said"),
    [
        (tiny_onnx(), ["cat", "dog"] * 20, "`expected` holds names such as `cat`, but model.onnx answers with numbers"),
        (naming(["cat", "dog", "cow"]), [0, 1] * 20, "`expected` holds numbers such as `0`, but model.onnx answers wi"),
    ],
    ids=["names for numbers", "numbers for names"],
)
def test_labels_of_another_kind_than_the_models_are_a_mistake(
    config: Config, aws: Aws, clock: FakeClock, model: onnx.ModelProto, expected: list[str | int], said: str
) -> None:
    """They would never agree, and a good model would be refused for an accuracy of 0."""
    onnx.save(model, config.file("model.onnx"))
    np.savez(config.file("golden.npz"), X=golden_rows()["X"], expected=expected)

    with pytest.raises(ConfigError, match=said):
        publish(config, aws, clock, service=SERVICE)


@pytest.mark.parametrize(
    ("model", "expected"),
    [(tiny_onnx(), np.array(["0", "1", "2"])), (naming(["7", "8", "9"]), np.array([7, 8, 9]))],
    ids=["digits as text", "numbers for digits"],
)
def test_the_same_label_written_as_number_or_text_is_the_same(
    config: Config, aws: Aws, clock: FakeClock, model: onnx.ModelProto, expected: np.ndarray
) -> None:
    """A label 7 agrees with a label "7"."""
    rows = golden_rows()
    onnx.save(model, config.file("model.onnx"))
    np.savez(config.file("golden.npz"), X=rows["X"], expected=expected[rows["expected"]])

    published = publish(config, aws, clock, service=SERVICE)

    assert Quality("accuracy", 1.0, 0.9, 40) == published.quality


def test_a_model_worse_than_the_live_one_is_refused(configure: Configure, aws: Aws, clock: FakeClock) -> None:
    """Above its floor but too far below what is live: refused."""
    config = configure(model__quality={"at_least": 0.5, "not_worse_than_live_by": 0.01})
    labels = golden_rows()
    labels["expected"][:4] += 1
    np.savez(config.file("golden.npz"), **labels)

    with pytest.raises(GateRefused, match="the live model's value less what may be lost"):
        publish(config, aws, clock, service=SERVICE, live_quality=Quality("accuracy", 1.0, 0.5, 40))


def test_no_labels_means_no_quality_said_aloud(configure: Configure, aws: Aws, clock: FakeClock) -> None:
    """Without labels the release says `quality: none`."""
    config = configure(model__quality=None)
    np.savez(config.file("golden.npz"), X=golden_rows()["X"])
    lines: list[str] = []

    published = publish(config, aws, clock, service=SERVICE, on_progress=lines.append)

    assert published.quality is None
    assert any("quality: none" in line for line in lines)


def test_a_floor_without_labels_is_a_mistake(config: Config, aws: Aws, clock: FakeClock) -> None:
    """A quality floor needs labels to hold it to."""
    np.savez(config.file("golden.npz"), X=golden_rows()["X"])

    with pytest.raises(ConfigError, match="no array `expected`"):
        publish(config, aws, clock, service=SERVICE)


def test_a_dry_run_stores_nothing(config: Config, aws: Aws, clock: FakeClock) -> None:
    """A dry run validates, says what would be stored, and leaves the bucket empty."""
    lines: list[str] = []

    published = publish(config, aws, clock, service=SERVICE, dry_run=True, on_progress=lines.append)

    assert published.manifest_version_id == ""
    assert sum("would be stored" in line for line in lines) == 2
    assert "Versions" not in aws.call("s3", "list_object_versions", Bucket=published.bucket)


def test_without_bootstrap_the_error_names_it(config: Config, aws: Aws, clock: FakeClock) -> None:
    """No registry stack: the remedy is the command that makes it."""
    aws.call("cloudformation", "delete_stack", StackName="demo-test-registry")

    with pytest.raises(UsageError, match="onnxship bootstrap"):
        publish(config, aws, clock, service=SERVICE)


def test_external_weights_are_published_too(config: Config, aws: Aws, clock: FakeClock, project: Path) -> None:
    """A model with weights in a second file has both in its manifest, the .onnx first."""
    onnx.save(
        tiny_onnx(),
        project / "model.onnx",
        save_as_external_data=True,
        location="weights.data",
        size_threshold=0,
    )

    published = publish(config, aws, clock, service=SERVICE)

    manifest = json.loads(read(aws, published.bucket, published.manifest_key, published.manifest_version_id))
    assert [file["name"] for file in manifest["files"]] == ["model.onnx", "weights.data"]


def test_a_local_copy_needs_no_aws(config: Config, tmp_path: Path) -> None:
    """write_local puts the files beside the manifest, under the names and sha256 that it says."""
    path = write_local(config, SERVICE, tmp_path / "local")

    manifest: dict[str, Any] = json.loads(path.read_text())
    for file in (*manifest["files"], manifest["golden"]):
        assert file["sha256"] == hashlib.sha256((path.parent / file["name"]).read_bytes()).hexdigest()
        assert {"name", "sha256", "size_bytes"} == set(file)


def test_a_local_copy_needs_no_golden_inputs(config: Config, project: Path, tmp_path: Path) -> None:
    """The server alone can do without: the manifest names none, and the example is zeros in a row's shape."""
    (project / "golden.npz").unlink()

    path = write_local(config, SERVICE, tmp_path / "local")

    assert "golden" not in json.loads(path.read_text())
    assert {"manifest.json", "model.onnx"} == {file.name for file in path.parent.iterdir()}
    assert ("/predict", {"input": [0.0] * 4}) == example_request(config, SERVICE)


def test_golden_inputs_that_are_there_must_be_right(config: Config, project: Path, tmp_path: Path) -> None:
    """A file that cannot be read is not the same as none."""
    (project / "golden.npz").write_bytes(b"no archive")

    with pytest.raises(ConfigError):
        write_local(config, SERVICE, tmp_path / "local")


def test_a_model_that_takes_no_single_row_has_whole_tensors_as_example(config: Config, project: Path) -> None:
    """`/predict` takes rows; `/infer` takes any shape."""
    onnx.save(tiny_onnx(rows=8), project / "model.onnx")

    tensor = {"name": "X", "datatype": "FP32", "shape": [8, 4], "data": [0.0] * 32}
    assert (f"/v2/models/{SERVICE}/infer", {"inputs": [tensor]}) == example_request(config, SERVICE)


def test_the_example_request_is_the_first_golden_row(config: Config) -> None:
    """`onnxship serve` can print a request that the model understands."""
    assert ("/predict", {"input": golden_rows()["X"][0].tolist()}) == example_request(config, SERVICE)

"""Bad input gets a clear error with its remedy and the right exit code, and loses nothing."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.stories.conftest import Ended, Project

pytestmark = [pytest.mark.story, pytest.mark.timeout(120)]


@pytest.fixture
def config(project: Project) -> Iterator[Path]:
    """onnxship.yaml, put back as it was afterwards."""
    path = project.directory / "onnxship.yaml"
    text = path.read_text()
    yield path
    path.write_text(text)


def refused(ended: Ended, exit_code: int, *says: str) -> None:
    """The command ended with `exit_code`, said each of `says`, and named a remedy; no traceback, nothing on stdout."""
    assert exit_code == ended.exit_code, ended.stderr
    assert [] == [text for text in says if text not in ended.stderr], ended.stderr
    assert "Fix: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "" == ended.stdout


def save(project: Project, name: str, model: onnx.ModelProto) -> str:
    (project.directory / name).write_bytes(model.SerializeToString())
    return name


def small_model(ir_version: int = 10, opset: int = 22) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)])


def test_a_malformed_file_shows_every_mistake(project: Project, config: Path) -> None:
    """Unknown keys, missing keys and wrong sizes in one answer, each with its path."""
    config.write_text(config.read_text().replace("cpu: 1024", "cpu: 1000").replace("golden:", "goldn:"))

    refused(project.onnxship("doctor"), 2, "3 mistakes", "compute: cpu 1000", "model.golden: is missing", "model.goldn")


def test_a_file_that_is_not_onnx_is_named(project: Project) -> None:
    """A text file under the name of a model."""
    (project.directory / "bad.onnx").write_text("not a model")

    refused(project.onnxship("init", "--model", "bad.onnx", "--directory", "new"), 2, "bad.onnx", "not an ONNX file")


def test_a_missing_model_is_named(project: Project) -> None:
    """A path with a typo."""
    refused(project.onnxship("init", "--model", "modell.onnx", "--directory", "new"), 2, "modell.onnx")


def test_an_ir_version_that_is_too_new_says_both_numbers(project: Project) -> None:
    """What the file has, and what the pinned ONNX Runtime takes."""
    name = save(project, "new_ir.onnx", small_model(ir_version=14))

    refused(project.onnxship("init", "--model", name, "--directory", "new"), 2, "IR version 14", "13")


def test_an_opset_that_is_too_new_says_both_numbers(project: Project) -> None:
    """The same for the operator set."""
    name = save(project, "new_opset.onnx", small_model(opset=28))

    refused(project.onnxship("init", "--model", name, "--directory", "new"), 2, "opset 28", "26")


def test_a_zipmap_says_how_to_export_without(project: Project) -> None:
    """scikit-learn's default export cannot be carried by a tensor protocol."""
    features, labels = load_iris(return_X_y=True)
    classifier = LogisticRegression(max_iter=500).fit(features.astype(np.float32), labels)
    name = save(project, "zipmap.onnx", to_onnx(classifier, features[:1].astype(np.float32)))

    refused(project.onnxship("init", "--model", name, "--directory", "new"), 2, "output_probability", "zipmap")


def test_init_never_overwrites(project: Project) -> None:
    """The configuration that stands is left alone."""
    before = (project.directory / "onnxship.yaml").read_text()

    refused(project.onnxship("init", "--model", "model.onnx"), 2, "onnxship.yaml stands already")
    assert before == (project.directory / "onnxship.yaml").read_text()


def test_too_few_rows_are_refused(project: Project) -> None:
    """Thirty-one rows do not judge a release."""
    rows = "\n".join(["a,b,c,d,label", *["5.1,3.5,1.4,0.2,0"] * 31])
    (project.directory / "few.csv").write_text(rows)

    ended = project.onnxship("init", "--model", "model.onnx", "--data", "few.csv", "--directory", "new")

    refused(ended, 2, "31 rows", "32")
    assert not (project.directory / "new").exists()


def test_serve_names_a_port_in_use(project: Project) -> None:
    """Another program listens there already."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        refused(project.onnxship("serve", "--port", str(port)), 2, f"Port {port} is in use")


def test_without_a_rehearsal_there_is_nothing_to_enter(project: Project) -> None:
    """`rehearse env` before `rehearse up`."""
    refused(project.onnxship("rehearse", "env"), 2, "No local AWS runs", "onnxship rehearse up")


def test_without_a_configuration_there_is_nothing_to_enter(project: Project) -> None:
    """`rehearse env` in the wrong directory."""
    (project.directory / "elsewhere").mkdir()
    elsewhere = Project(project.directory / "elsewhere", project.environment)

    refused(elsewhere.onnxship("rehearse", "env"), 2, "no onnxship.yaml in")


def test_without_credentials_the_rehearsal_is_offered(project: Project) -> None:
    """A first `onnxship ship` on a machine that knows no AWS."""
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}

    ended = project.onnxship("ship", "--yes", **nowhere, AWS_SHARED_CREDENTIALS_FILE="/dev/null")

    refused(ended, 6, "no AWS credentials", "onnxship rehearse up")


@pytest.fixture(scope="module")
def up(project: Project) -> Iterator[Project]:
    ended = project.onnxship("rehearse", "up")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    yield project
    project.onnxship("rehearse", "down")


def test_a_second_up_names_the_first(up: Project) -> None:
    """One local AWS for each project."""
    refused(up.onnxship("rehearse", "up"), 2, "runs already", "onnxship rehearse down")


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_without_credentials_the_running_rehearsal_is_named(up: Project, command: str) -> None:
    """`rehearse ship` in one shell, `status` in another that never entered: the line to type stands in the answer."""
    kept = {name: value for name, value in up.environment.items() if not name.startswith(("AWS_", "ONNXSHIP_"))}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    outside = Project(up.directory, kept | nowhere | {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"})

    ended = outside.onnxship(command)

    assert ended.exit_code in (2, 6)
    assert "no AWS credentials" in ended.stderr
    assert 'eval "$(onnxship rehearse env)"' in ended.stderr


@pytest.mark.parametrize("command", ["up", "ship"])
def test_another_account_needs_another_rehearsal(up: Project, config: Path, command: str) -> None:
    """The account was changed in the file while the local AWS runs as the old one."""
    config.write_text(config.read_text().replace('"111122223333"', '"999988887777"'))

    refused(up.onnxship("rehearse", command), 2, "111122223333", "999988887777", "`onnxship rehearse down`")


def test_rehearse_run_gives_the_exit_code_of_its_command(up: Project) -> None:
    """Its own, or the one that a shell gives for a signal."""
    assert 3 == up.onnxship("rehearse", "run", "--", "sh", "-c", "exit 3").exit_code
    assert 0 == up.onnxship("rehearse", "run", "--", "sh", "-c", "test -n $AWS_ENDPOINT_URL").exit_code


def test_an_endpoint_that_is_not_loopback_is_refused(up: Project) -> None:
    """Whatever its state file is made to say, a rehearsal points at nothing but this machine."""
    state = up.directory / ".onnxship/rehearsal/rehearsal.json"
    text = state.read_text()
    state.write_text(text.replace("http://127.0.0.1", "http://203.0.113.7"))

    ended = up.onnxship("rehearse", "env")
    state.write_text(text)

    refused(ended, 2, "203.0.113.7", "loopback")


def test_ship_before_bootstrap_says_so(up: Project) -> None:
    """The repository and the bucket come first."""
    refused(up.onnxship("ship", "--yes"), 2, "onnxship bootstrap")


def test_the_wrong_account_is_refused_before_anything_changes(up: Project, config: Path) -> None:
    """The credentials' account and the environment's must be the same."""
    config.write_text(config.read_text().replace('"111122223333"', '"999988887777"'))

    refused(up.onnxship("bootstrap"), 2, "111122223333", "999988887777", "--env")


def test_an_unknown_release_lists_the_known_ones(up: Project) -> None:
    """`rollback` to a name with a typo."""
    assert 0 == up.onnxship("bootstrap").exit_code

    refused(up.onnxship("rollback", "v9", "--yes"), 2, "onnxship ship")


def test_a_release_id_that_s3_could_not_carry_is_refused(up: Project) -> None:
    """Slashes, spaces and 65 characters."""
    refused(up.onnxship("ship", "--release", "a/b", "--yes"), 2, "no release id")


def test_a_port_in_use_fails_the_stack_by_name(up: Project) -> None:
    """The production listener's port is taken by another program: CloudFormation says which, and rolls back."""
    overlay = Path(up.environment["ONNXSHIP_OVERLAY"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = overlay.read_text()
        changed = [f"  production_port: {port}" if "production_port" in line else line for line in text.splitlines()]
        (up.directory / "taken.yaml").write_text("\n".join(changed))

        ended = up.onnxship("ship", "--yes", "--release", "taken", ONNXSHIP_OVERLAY=str(up.directory / "taken.yaml"))

    assert ended.exit_code in (3, 5, 6), ended.stderr
    assert str(port) in ended.stderr
    assert "Fix: " in ended.stderr


def test_unanswerable_calls_say_not_rehearsed(up: Project) -> None:
    """An AWS call that the local AWS does not know is answered in words, never with a 500."""
    script = (
        "import boto3, botocore\n"
        "try: boto3.client('ce').get_anomaly_monitors()\n"
        "except botocore.exceptions.ClientError as error: print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=up.environment, capture_output=True, text=True, check=True
    )

    assert "not rehearsed" in ended.stdout


def test_json_errors_leave_stdout_empty(up: Project) -> None:
    """A script that parses stdout never meets half an answer."""
    ended = up.onnxship("status", "--output", "json")

    assert 2 == ended.exit_code
    assert "" == ended.stdout


def test_after_down_a_shell_is_told_how_to_leave(up: Project) -> None:
    """It still points at an endpoint that answers no more: `down` and every command after it say what to do."""
    ended = up.onnxship("rehearse", "down")
    assert 'eval "$(onnxship rehearse env --unset)"' in ended.stderr

    refused(up.onnxship("status"), 6, "has ended", "onnxship rehearse up", "open a new shell")

    leave = f'eval "$({sys.executable} -m pipeline rehearse env --unset)"'
    script = f'PS1="(rehearsal) $ "; {leave} && env && echo "[$PS1]"'
    left = subprocess.run(
        ["bash", "-c", script], cwd=up.directory, env=up.environment, capture_output=True, text=True, check=True
    )
    assert [] == [line for line in left.stdout.splitlines() if line.startswith(("AWS_", "ONNXSHIP_"))]
    assert left.stdout.endswith("[$ ]\n")


def test_a_shell_that_never_entered_keeps_its_own_settings(project: Project) -> None:
    """`env --unset` takes away what the rehearsal gave, not a user's own credentials."""
    script = f'eval "$({sys.executable} -m pipeline rehearse env --unset)" && echo "$AWS_ACCESS_KEY_ID"'
    mine = project.environment | {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"}

    kept = subprocess.run(["bash", "-c", script], cwd=project.directory, env=mine, capture_output=True, text=True)

    assert "AKIAEXAMPLE\n" == kept.stdout

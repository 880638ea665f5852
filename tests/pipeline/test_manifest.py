"""`onnxship manifest`: a repository of models that a server follows while it is written to."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.cli import cli, complete
from pipeline.errors import ConfigError, UsageError
from tests.pipeline.conftest import WEIGHTS, golden_rows, tiny_onnx
from tests.pipeline.test_serve import ROOT, ask, free_port, until, wait_ready

OTHER_WEIGHTS = np.roll(WEIGHTS, 1, axis=1)  # what was class 0 is now class 1
complete(cli)


def manifest(*words: str | Path) -> Result:
    """`onnxship manifest`, whose errors are raised here."""
    return CliRunner().invoke(cli, ["manifest", *map(str, words)], catch_exceptions=False, standalone_mode=False)


def version(result: Result) -> str:
    return str(json.loads(result.stdout)["version"])


def pinned(path: Path) -> list[dict[str, Any]]:
    """Every file that a manifest names, found beside it with the sha256 and size that it says."""
    content = json.loads(path.read_text())
    files = [*content["files"], *([content["golden"]] if "golden" in content else [])]
    for file in files:
        found = (path.parent / file["name"]).read_bytes()
        assert (file["sha256"], file["size_bytes"]) == (hashlib.sha256(found).hexdigest(), len(found))
    return files


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_a_model_stands_beside_its_manifest_under_names_of_its_content(project: Path, repository: Path) -> None:
    """Every file has the sha256 and size that the manifest says, and the version is the one that the server gives."""
    answer = manifest(
        *(project / "model.onnx", "--name", "tiny", "--repository", repository),
        *("--golden", project / "golden.npz", "--output", "json"),
    )

    path = repository / "tiny/manifest.json"
    files = pinned(path)
    assert {path.name, *(file["name"] for file in files)} == {file.name for file in path.parent.iterdir()}
    assert [f"model-{files[0]['sha256'][:12]}.onnx", f"golden-{files[1]['sha256'][:12]}.npz"] == [
        file["name"] for file in files
    ]
    assert "tiny" == json.loads(path.read_text())["name"]
    assert (hashlib.sha256(path.read_bytes()).hexdigest()[:12], 1.0) == (
        version(answer),
        json.loads(answer.stdout)["quality"]["value"],
    )


def test_the_same_model_again_changes_nothing(project: Path, repository: Path) -> None:
    """The manifest is not even written anew: a server that polls sees no change."""
    words = (project / "model.onnx", "--repository", repository, "--output", "json")
    manifest(*words)
    before = (repository / "model/manifest.json").stat()

    again = manifest(*words)

    assert json.loads(again.stdout)["reused"]
    assert (before.st_ino, before.st_mtime_ns) == (
        (after := (repository / "model/manifest.json").stat()).st_ino,
        after.st_mtime_ns,
    )


def test_a_file_that_was_damaged_is_mended_by_the_same_model(project: Path, repository: Path) -> None:
    """Content under a name is what the name says, or is written again."""
    manifest(project / "model.onnx", "--repository", repository)
    path = repository / "model/manifest.json"
    (path.parent / json.loads(path.read_text())["files"][0]["name"]).write_bytes(b"cut off")

    manifest(project / "model.onnx", "--repository", repository)

    assert 1 == len(pinned(path))


def test_the_version_before_stays_whole_and_older_ones_go(project: Path, repository: Path) -> None:
    """A server that has just read the manifest still finds its files; two changes later they are removed."""
    names = []
    for weights in (WEIGHTS, OTHER_WEIGHTS, -WEIGHTS):
        onnx.save(tiny_onnx(weights=weights), project / "model.onnx")
        answer = manifest(project / "model.onnx", "--repository", repository, "--output", "json")
        names.append(pinned(repository / "model/manifest.json")[0]["name"])

    assert [names[0]] == json.loads(answer.stdout)["removed"]
    assert [names[1]] == [file["name"] for file in pinned(repository / "model/manifest.previous.json")]
    assert {names[1], names[2], "manifest.json", "manifest.previous.json"} == {
        file.name for file in (repository / "model").iterdir()
    }


def test_files_of_the_users_own_are_never_removed(project: Path, repository: Path) -> None:
    """Nor those that a manifest written by hand names."""
    directory = repository / "model"
    directory.mkdir(parents=True)
    own = directory / "fraud.onnx"
    own.write_bytes((project / "model.onnx").read_bytes())
    by_hand = {"files": [{"name": own.name, "sha256": hashlib.sha256(own.read_bytes()).hexdigest()}]}
    (directory / "manifest.json").write_text(json.dumps(by_hand))

    for weights in (WEIGHTS, OTHER_WEIGHTS, -WEIGHTS):
        onnx.save(tiny_onnx(weights=weights), project / "model.onnx")
        manifest(project / "model.onnx", "--repository", repository)

    assert own.exists()


def test_a_file_that_only_looks_like_one_of_these_is_left(project: Path, repository: Path) -> None:
    """What a name holds must be the sha256 of the content: a date is none."""
    manifest(project / "model.onnx", "--repository", repository)
    table = repository / "model/data-202611261200.csv"
    table.write_text("a,b\n")

    onnx.save(tiny_onnx(weights=OTHER_WEIGHTS), project / "model.onnx")
    manifest(project / "model.onnx", "--repository", repository)

    assert table.exists()


def test_what_a_killed_run_left_is_removed_by_the_next_change(project: Path, repository: Path) -> None:
    """Its files are whole, but no manifest names them; the one that it was writing is not whole."""
    manifest(project / "model.onnx", "--repository", repository)
    directory = repository / "model"
    left = directory / f"model-{hashlib.sha256(b'half done').hexdigest()[:12]}.onnx"
    left.write_bytes(b"half done")
    (directory / ".unfinished").write_bytes(b"cut of")

    onnx.save(tiny_onnx(weights=OTHER_WEIGHTS), project / "model.onnx")
    answer = manifest(project / "model.onnx", "--repository", repository, "--output", "json")

    assert [left.name] == json.loads(answer.stdout)["removed"]
    files = [*pinned(directory / "manifest.json"), *pinned(directory / "manifest.previous.json")]
    expected = {"manifest.json", "manifest.previous.json", *(file["name"] for file in files)}
    assert expected == {file.name for file in directory.iterdir()}


def test_what_does_not_do_leaves_what_stands(project: Path, repository: Path) -> None:
    """A model that `publish` would refuse is refused here before anything is written."""
    manifest(project / "model.onnx", "--repository", repository)
    before = {file.name: file.read_bytes() for file in (repository / "model").iterdir()}
    (project / "model.onnx").write_bytes(b"no model")

    with pytest.raises(ConfigError, match="is not an ONNX file"):
        manifest(project / "model.onnx", "--repository", repository)

    assert before == {file.name: file.read_bytes() for file in (repository / "model").iterdir()}


def test_labels_of_a_service_stand_in_its_manifest(project: Path, repository: Path) -> None:
    """Without MODEL the service of onnxship.yaml is taken; a file of labels needs no place beside the model."""
    path = project / "onnxship.yaml"
    content = yaml.safe_load(path.read_text())
    content["services"]["tiny"]["model"]["predict"] = {"labels": "labels.txt"}
    path.write_text(yaml.safe_dump(content))
    (project / "labels.txt").write_text("left\nright\nbelow\n")

    manifest("--config", path, "--repository", repository)

    written = json.loads((repository / "tiny/manifest.json").read_text())
    assert ["left", "right", "below"] == written["predict"]["labels"]
    assert {"files", "golden"} <= written.keys()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.onnx", "--name", "../x"), "--name `../x` does not do"),
        (("model.onnx", "--service", "tiny"), "model.onnx and --service tiny name two models"),
        (("model.onnx", "--golden", "nowhere.npz"), "There is no nowhere.npz"),
        (("--golden", "golden.npz"), "No MODEL is given, and --golden golden.npz belongs to one"),
        (("--config", "nowhere.yaml"), "No MODEL is given, and there is no nowhere.yaml to take one from"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    """Each by what is wrong, and nothing is written."""
    monkeypatch.chdir(project)

    with pytest.raises(UsageError) as caught:
        manifest(*words, "--repository", "models")

    assert says in caught.value.what
    assert not Path("models").exists()


def test_a_directory_that_cannot_be_written_is_named(project: Path) -> None:
    """A file where the repository should be."""
    with pytest.raises(UsageError, match=r"model\.onnx/model cannot be written: Not a directory"):
        manifest(project / "model.onnx", "--repository", project / "model.onnx")


@pytest.fixture
def following(project: Path, repository: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The model server, which follows a repository that holds `tiny`; and its port."""
    manifest(project / "model.onnx", "--name", "tiny", "--repository", repository, "--golden", project / "golden.npz")
    port = free_port()
    settings = {
        "MODEL_REPOSITORY_URI": repository.as_uri(),
        "MODEL_CONTROL": "poll",
        "MODEL_POLL_S": "0.1",
        "MODEL_DIR": str(project / "fetched"),
        "BIND_HOST": "127.0.0.1",
        "PORT": str(port),
        "ADMIN_PORT": "0",
        "DRAIN_S": "0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "model_service"]
    with subprocess.Popen(
        command, cwd=repository, env=os.environ | settings, stdout=subprocess.DEVNULL, text=True
    ) as process:
        wait_ready(process, port)
        yield process, port
        process.terminate()
        assert 0 == process.wait(60)


def test_a_server_that_polls_takes_the_changed_model(
    following: tuple[subprocess.Popen[str], int], project: Path, repository: Path
) -> None:
    """The same command again is the whole update, also to a model whose weights lie in another file."""
    _, port = following
    row = {"input": golden_rows()["X"][0].tolist()}
    first = ask(port, "POST", "/predict", row)[1]["prediction"]
    onnx.save(
        tiny_onnx(weights=OTHER_WEIGHTS),
        project / "model.onnx",
        save_as_external_data=True,
        location="the weights.data",
        size_threshold=0,
    )

    changed = manifest(project / "model.onnx", "--name", "tiny", "--repository", repository, "--output", "json")

    until(lambda: ask(port, "GET", "/v2/models/tiny")[1]["versions"] == [version(changed)], "never followed")
    assert (first + 1) % 3 == ask(port, "POST", "/predict", row)[1]["prediction"]

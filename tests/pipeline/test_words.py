"""Numbers in messages, with the right form of what they count."""

import subprocess
from datetime import date

import numpy as np

from pipeline.building.git import identify
from pipeline.judges import judge_findings, judge_parity
from pipeline.results import Finding
from pipeline.words import counted


def test_one_is_singular_and_every_other_number_is_plural() -> None:
    """Also where an s does not do it."""
    assert ["0 rows", "1 row", "2 rows"] == [counted(n, "row") for n in (0, 1, 2)]
    assert ["1 is", "2 are"] == [counted(n, "is", "are") for n in (1, 2)]


def test_gates_speak_of_one_thing_in_the_singular() -> None:
    """One output, one row, one finding."""
    one = {"y": np.array([1.0])}
    findings = [Finding("CVE-1", "HIGH", "openssl", "1", "")]
    scanned = judge_findings("d", "COMPLETE", findings, fail_on="HIGH", only_fixable=False, ignore=[], today=date.min)

    assert "1 output equals ONNX Runtime's own on 1 row" == judge_parity(one, one, rtol=0, atol=0)[1]
    assert "1 of 1 finding blocks (HIGH or worse); 0 are ignored by rule" == scanned.reason


def test_one_uncommitted_file_is_said_in_the_singular(tmp_path) -> None:
    """A repository with one new file."""
    who = ("-c", "user.name=u", "-c", "user.email=u@example.com")
    for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "new.py").touch()

    assert "1 file is not committed" == identify(tmp_path, [tmp_path]).why

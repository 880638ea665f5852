"""A release that has turned slow is measured beside the one that serves, and refused; one as fast is let through."""

from typing import Any

import pytest

from tests.stories.conftest import Ended, Project, predict

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(300)]

SLOW = """\
import json
import time

import numpy as np


def preprocess(request: bytes, content_type: str) -> dict[str, np.ndarray]:
    time.sleep(0.1)
    return {"X": np.array([json.loads(request)["input"]], dtype=np.float32)}
"""


@pytest.fixture(scope="module")
def production(rehearsal: Project) -> str:
    """The first release, which nothing served before; its URL. The slow one must be slow, but not drown in the load."""
    path = rehearsal.directory / "onnxship.yaml"
    text = path.read_text().replace(
        "{rps: 20, duration_s: 4, min_requests: 40", "{rps: 8, duration_s: 4, min_requests: 15"
    )
    path.write_text(text.replace("{rps: 30, duration_s: 3, max_latency", "{rps: 15, duration_s: 7, max_latency"))
    rehearsal.commit("A smaller load")
    ended = rehearsal.onnxship("ship", "--release", "v1", "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    assert "p50_ratio" not in load_gate(ended)["numbers"]
    return str(ended.json["production_url"])


def load_gate(shipped: Ended) -> dict[str, Any]:
    (gate,) = [gate for gate in shipped.json["gates"] if gate["name"] == "load"]
    return dict(gate)


def test_a_release_that_has_turned_slow_is_refused(rehearsal: Project, production: str) -> None:
    """Its answers are right and within every limit of the load's; exit code 3, and what served serves."""
    (rehearsal.directory / "service.py").write_text(SLOW)
    rehearsal.commit("Slow")

    ended = rehearsal.onnxship("ship", "--release", "v2", "--yes")

    assert 3 == ended.exit_code, ended.stderr
    assert "gate `load` refused: slower than what serves: median " in ended.stderr, ended.stderr
    assert "at most x1.5" in ended.stderr
    assert "v1" == predict(production)[0]


def test_a_release_as_fast_as_what_serves_passes_with_the_numbers_of_both(rehearsal: Project, production: str) -> None:
    """Another model, the same speed."""
    (rehearsal.directory / "service.py").unlink()
    rehearsal.train(c=0.5)
    rehearsal.commit("As fast")

    ended = rehearsal.onnxship("ship", "--release", "v3", "--yes", "--output", "json")

    assert 0 == ended.exit_code, ended.stderr
    numbers = load_gate(ended)["numbers"]
    assert numbers["p50_ratio_low"] <= numbers["p50_ratio"] <= numbers["p50_ratio_high"]
    assert numbers["p50_ratio"] == pytest.approx(numbers["new_p50_ms"] / numbers["live_p50_ms"], abs=0.01)
    assert 0 == numbers["live_failures"]
    assert "v3" == predict(production)[0]

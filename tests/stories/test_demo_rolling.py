"""`make demo` with the strategy ROLLING: tasks are replaced one by one, and users are the first to see them."""

from pathlib import Path

import pytest

from tests.stories.telling import start

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]


def test_rolling_says_that_it_has_no_gate_before_production(tmp_path: Path) -> None:
    """Only good releases are shipped, no request fails, and the output says why."""
    demo = start(tmp_path, "--strategy", "ROLLING")
    told, _ = demo.communicate()

    assert 0 == demo.returncode, told
    assert "nothing can judge the new ones before users see them" in " ".join(told.split())
    assert "0 failed" in told

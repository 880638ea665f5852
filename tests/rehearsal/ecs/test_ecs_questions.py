"""Open questions, answered on a command line."""

from __future__ import annotations

import pytest

from rehearsal.ecs.questions import OpenQuestions


def test_answers_are_read_by_name():
    """Switches, choices and numbers are read; what is not said keeps its default."""
    words = ["hooks_at_creation=false", "failed_first_deployment=STOPPED", "rolling_alarm_bake_minutes=0.5"]
    expected = OpenQuestions(hooks_at_creation=False, failed_first_deployment="STOPPED", rolling_alarm_bake_minutes=0.5)
    assert OpenQuestions.parse(words) == expected


@pytest.mark.parametrize(
    ("word", "choices"),
    [("hook_at_creation=true", "hooks_at_creation"), ("mixed_rule_actions=drop", "keep, refuse")],
)
def test_a_mistake_is_told_with_what_there_is(word, choices):
    """A misspelled name or value is refused and lists the right ones."""
    with pytest.raises(ValueError, match=choices):
        OpenQuestions.parse([word])

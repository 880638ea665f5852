"""A start that takes long says which of its steps has not ended."""

import logging
import threading
from collections.abc import Iterator

import pytest

from model_service.slow_start import told


class Lines(logging.Handler):
    """What was logged; `enough` is set with the second line."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.enough = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        if len(self.said) > 1:
            self.enough.set()


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("model_service.slow_start")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_step_that_does_not_end_is_named_again_and_again(lines: Lines) -> None:
    """With the seconds since it began."""
    with told("service.py startup()", every_s=0.05):
        assert lines.enough.wait(10)

    assert all(line.startswith("still in service.py startup() after ") for line in lines.said)


def test_a_step_that_ends_in_time_says_nothing(lines: Lines) -> None:
    """The usual start is quiet."""
    with told("the load of the model"):
        pass

    assert [] == lines.said

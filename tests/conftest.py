"""What all tests share: which run on one worker, and a place in the summary for counts that a reader wants to see
though everything passed."""

import signal
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Each of its tests has a local AWS of its own, so they need not wait for one another; they fill the gaps at the end.
SPREAD = "test_open_questions.py"
# Whole demos have users all the while, 30 requests a second: more than two at once, and each takes longer for the
# others, with more requests. The files of a lane stay on one worker.
LANES = (
    ("test_demo_docker.py", "test_demo_canary.py"),
    ("test_demo.py", "test_demo_linear.py", "test_demo_rolling.py"),
)
# Minutes each: begun last, one worker would be busy with them long after the others.
LONGEST = (*LANES[0], *LANES[1], "test_switches.py", "test_tutorial.py")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """For `--dist loadscope`: a file stays on one worker, a lane too, and what is to be spread goes to all of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        name = file.rpartition("/")[2]
        if name == SPREAD:
            return nodeid
        return next((lane[0] for lane in LANES if name in lane), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, in their order, the one that is spread last."""
    place = {name: number for number, name in enumerate(LONGEST)} | {SPREAD: len(LONGEST) + 1}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """What tests start hears SIGINT, also where a shell started the tests themselves in the background, without."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """The scheduler of `make stories`; xdist's own groups (3.8) do nothing under pytest 9.2, where ids are fixed."""
    return ByFile(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have recorded as `told`: record_property("told", "...")."""
    for report in terminalreporter.getreports("passed"):
        for name, told in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(told))

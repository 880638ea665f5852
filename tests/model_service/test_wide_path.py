"""The wide path of a model: looked for when the model is served already, and what WIDE_PATH says of it."""

from pathlib import Path

import pytest

from model_service.runtime.cpus import available_cpus
from tests.model_service.conftest import Launch, Service

DECIDED = "a lone request on "

needs_two_cpus = pytest.mark.skipif(available_cpus() < 2, reason="on one CPU there is no wide path")


def threads(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


def messages(service: Service) -> list[str]:
    return [line["message"] for line in service.log()]


@needs_two_cpus
def test_is_looked_for_once_the_model_is_served(launch: Launch, heavy_manifest: Path) -> None:
    """A start does not wait for it: the service is ready first, and says later what a lone request gains."""
    service = launch(heavy_manifest).wait_ready()
    service.wait_until(lambda: any(DECIDED in message for message in messages(service)), "decided")
    kinds = [DECIDED in message for message in messages(service) if DECIDED in message or "is ready" in message]
    assert [False, True] == kinds
    assert 0 == service.stop()


@needs_two_cpus
def test_is_taken_unmeasured_where_it_is_on(launch: Launch, heavy_manifest: Path) -> None:
    """WIDE_PATH=on loads a second session, whose threads are one fewer than the CPUs: the caller's is one of them."""
    without = launch(heavy_manifest, WIDE_PATH="off").wait_ready()
    service = launch(heavy_manifest, WIDE_PATH="on").wait_ready()
    wanted = threads(without) + available_cpus() - 1
    service.wait_until(lambda: threads(service) == wanted, f"had {wanted} threads")
    assert not any(DECIDED in message for message in messages(service))
    assert 0 == service.stop()
    assert 0 == without.stop()

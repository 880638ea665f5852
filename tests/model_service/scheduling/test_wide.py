"""Requests that are alone may have all CPUs; those that come together never do."""

import asyncio
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from model_service.runtime.model import Model
from tests.model_service.conftest import graph
from tests.model_service.scheduling.runner import SLOTS, Runner, loaded, rows

ALONE, TOGETHER = "[[3.0]]", "[[2.0]]"


@pytest.fixture
def tripling(tmp_path: Path) -> Model:
    """y = x + x + x. It stands in for the wide path of `doubling`, so that an answer tells which of them ran."""
    shapes = {"x": (TensorProto.FLOAT, ["N", "M"])}
    nodes = [helper.make_node("Sum", ["x", "x", "x"], ["y"])]
    (tmp_path / "wide").mkdir()
    return loaded(tmp_path / "wide", graph(nodes, shapes, {"y": (TensorProto.FLOAT, ["N", "M"])}))


def test_a_lone_request_runs_wide(doubling: Model, tripling: Model) -> None:
    """With a wide path a request that nobody else waits beside takes it, one after the other."""

    async def story() -> None:
        runner = Runner(doubling, SLOTS)
        assert [TOGETHER] == await runner.answers(rows(1))
        runner.scheduler.widen(tripling)
        assert [[ALONE]] * 3 == [await runner.answers(rows(1)) for _ in range(3)]
        await runner.scheduler.drain()

    asyncio.run(story())


def test_a_crowd_runs_narrow(doubling: Model, tripling: Model) -> None:
    """Requests that come while others wait share the CPUs, one thread each, and so does a lone one right after them."""

    async def story() -> None:
        runner = Runner(doubling, SLOTS)
        runner.scheduler.widen(tripling)
        answers = await runner.answers(*[rows(1)] * 20)
        assert [TOGETHER] * 19 == answers[1:]
        assert [TOGETHER] == await runner.answers(rows(1))
        later = [await runner.answers(rows(1)) for _ in range(30)]
        assert [ALONE] == later[-1]
        await runner.scheduler.drain()

    asyncio.run(story())

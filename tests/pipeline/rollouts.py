"""A rollout of release v2 in the small ECS made by hand: its configuration, its world, its gates."""

from datetime import timedelta

import pytest

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.results import GateResult, Verdict
from pipeline.stages.rollout import rollout
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, World, failed_task


@pytest.fixture
def config(tmp_path) -> Config:
    return Config.model_validate(
        {
            "project": "p",
            "environment_name": "e",
            "environment": {"account": "111122223333", "region": "eu-west-1"},
            "edge": {"allow_http": True, "production_port": 8080},
            "services": {
                "s": {
                    "model": {"path": "m.onnx", "golden": "g.npz"},
                    "gate": {"from": "runner", "runner_cidr": "192.0.2.7/32"},
                    "rollout": {"start_deadline_s": 60, "max_failed_tasks": 3},
                }
            },
            "directory": tmp_path,
            "path": tmp_path / "onnxship.yaml",
        }
    )


@pytest.fixture
def world() -> World:
    return World(FakeClock())


class Gates:
    """Gates with given verdicts that note what they saw."""

    def __init__(self, world, *verdicts: Verdict) -> None:
        self.world, self.verdicts, self.seen = world, verdicts, []

    def all(self):
        return [self._gate(number, verdict) for number, verdict in enumerate(self.verdicts, 1)]

    def _gate(self, number, verdict):
        def gate(target):
            self.seen.append((target, len(self.world.ingress), self.world.scale_out_suspended))
            return GateResult(f"g{number}", verdict, f"reason {number}", {"p99_ms": 12.5})

        return gate


def roll(config, world, *verdicts: Verdict, lines=None, **more):
    gates = Gates(world, *(verdicts or (Verdict.PASS,)))
    said = [] if lines is None else lines
    try:
        return rollout(
            config, world, world.clock, gates.all(), service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST, on_progress=said.append, **more,
        ), gates  # fmt: skip
    except PipelineError as error:
        error.gates_seen = gates.seen
        raise


def failed(number, world):
    return failed_task(number, world.clock.now() + timedelta(seconds=1))

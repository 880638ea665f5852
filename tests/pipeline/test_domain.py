"""The domain that the gates call the service by, looked up where the requests come from."""

import pytest

from pipeline.cli.gates import refuse_unknown_domain
from pipeline.cli.options import Run
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import World
from tests.pipeline.rollouts import config

assert config  # the fixture


def run_of(config: Config, domain: str, gate_from: str) -> Run:
    gate = config.services["s"].gate.model_copy(update={"from_": gate_from})
    services = {"s": config.services["s"].model_copy(update={"gate": gate})}
    edge = config.edge.model_copy(update={"domain": domain})
    run = Run(config.model_copy(update={"services": services, "edge": edge}), "s", "text", clock=FakeClock())
    run.aws = World(run.clock)
    return run


def test_a_domain_that_the_calling_machine_cannot_find_is_refused_with_the_record_to_make(config):
    """With `gate.from: runner` this machine calls the service, so it must find the name before a rollout."""
    with pytest.raises(ConfigError, match=r"edge\.domain models\.invalid does not resolve") as caught:
        refuse_unknown_domain(run_of(config, "models.invalid", "runner"), "v2")

    assert "CNAME record for it to lb.example" in caught.value.remedy
    assert "onnxship ship --release v2" in caught.value.remedy


def test_a_domain_that_only_the_vpc_knows_is_no_fault(config):
    """With `gate.from: vpc` the requests come from the VPC, whose private hosted zones this machine does not see."""
    run = run_of(config, "models.invalid", "vpc")

    refuse_unknown_domain(run, "v2")

    assert run.aws.calls == []


def test_a_domain_that_resolves_is_not_refused(config):
    """The name is there: nothing is said and AWS is not asked."""
    run = run_of(config, "localhost", "runner")

    refuse_unknown_domain(run, "v2")

    assert run.aws.calls == []

"""Templates, and the values they are given by name."""

from __future__ import annotations

import pytest

from pipeline import templates
from pipeline.config import Config
from pipeline.errors import ConfigError
from tests.pipeline.conftest import SERVICE, Configure

BODY = """
Parameters:
  Project: {Type: String}
  Weight: {Type: Number, Default: 100}
  VpcId: {Type: String}
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties: {DisplayName: !Sub "${Project}", Tags: !If [A, !Ref B, !GetAtt C.D]}
"""


def test_parameters_are_read_past_cloudformations_tags() -> None:
    """A parameter without a default must be given."""
    assert templates.parameters_of(BODY) == {"Project": True, "Weight": False, "VpcId": True}


def test_values_are_filled_by_name() -> None:
    """What the template does not ask for is left out, and what it has a default for may be."""
    filled = templates.fill("t", BODY, {"Project": "p", "VpcId": "vpc-1", "Other": "x"})

    assert filled == {"Project": "p", "VpcId": "vpc-1"}


def test_a_missing_value_is_named() -> None:
    """The error says which template needs which parameter."""
    with pytest.raises(ConfigError, match=r"cloudformation/t\.yaml needs VpcId"):
        templates.fill("t", BODY, {"Project": "p"})


def test_every_template_has_a_hash(config: Config) -> None:
    """A release's record names the templates it was deployed with."""
    hashes = templates.template_hashes(config)

    assert set(hashes) == set(templates.TEMPLATES)
    assert all(len(value) == 64 for value in hashes.values())


@pytest.mark.parametrize(
    ("where", "duration_s", "minutes"),
    [("runner", 1, "11"), ("runner", 30, "11"), ("runner", 31, "12"), ("runner", 900, "26"), ("vpc", 31, "17")],
)
def test_the_hook_outlasts_the_gate(configure: Configure, where: str, duration_s: int, minutes: str) -> None:
    """ECS waits for the gate's answer as long as load and comparison (30 s) take, and ten minutes more; in the VPC
    two tasks must start first."""
    config = configure(gate={"from": where, "load": {"duration_s": duration_s, "min_requests": 10}})

    assert templates.values_of_config(config, SERVICE)["HookTimeoutMinutes"] == minutes


def test_lists_become_numbered_parameters(config: Config) -> None:
    """Up to four ranges, the unused ones empty."""
    values = templates.values_of_config(config)

    assert [values[f"IngressCidr{i}"] for i in (1, 2, 3, 4)] == ["127.0.0.1/32", "", "", ""]


@pytest.mark.parametrize(("deadline_s", "grace_s"), [(300, "300"), (7201, "7200")])
def test_a_task_has_grace_until_its_deadline(configure: Configure, deadline_s: int, grace_s: str) -> None:
    """Up to what the template takes: a longer deadline is no refusal of the whole stack."""
    config = configure()
    service = config.services[SERVICE]
    rollout = service.rollout.model_copy(update={"start_deadline_s": deadline_s})
    services = {SERVICE: service.model_copy(update={"rollout": rollout})}

    values = templates.values_of_config(config.model_copy(update={"services": services}), SERVICE)

    assert values["HealthCheckGracePeriodSeconds"] == grace_s


def test_a_secret_is_named_without_its_json_key(configure: Configure) -> None:
    """The role may read the secret; which key of it the container gets is the task definition's."""
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:api-AbCdEf"
    config = configure(secrets={"A": f"{arn}:user::", "B": f"{arn}:password::"})

    assert templates.values_of_config(config, SERVICE)["SecretArns"] == arn


def test_an_amount_of_money_is_a_plain_number(configure: Configure) -> None:
    """CloudFormation's Number takes no 1e+06."""
    config = configure()
    rich = config.model_copy(update={"cost": config.cost.model_copy(update={"monthly_usd": 1000000.0})})

    assert templates.values_of_config(rich)["MonthlyUsd"] == "1000000"


def test_a_template_of_the_users_own_takes_the_place_of_the_projects(configure: Configure) -> None:
    """`templates: {network: ...}` is read from the file's directory."""
    config = configure().model_copy(update={"templates": {"network": "own.yaml"}})
    (config.directory / "own.yaml").write_text("Resources: {Topic: {Type: AWS::SNS::Topic, Properties: {}}}")

    assert templates.template_body(config, "network").startswith("Resources: {Topic")


def test_a_template_that_breaks_a_rule_is_refused_by_resource(configure: Configure) -> None:
    """A public bucket does not reach AWS, whoever wrote the template."""
    config = configure().model_copy(update={"templates": {"registry": "own.yaml"}})
    (config.directory / "own.yaml").write_text("Resources: {Open: {Type: AWS::S3::Bucket, Properties: {}}}")

    with pytest.raises(ConfigError, match="breaks") as caught:
        templates.template_body(config, "registry")

    assert any(line.startswith("Open: ") for line in caught.value.details)


def test_a_template_that_is_not_there_is_named(configure: Configure) -> None:
    """A typo in the path."""
    config = configure().model_copy(update={"templates": {"network": "missing.yaml"}})

    with pytest.raises(ConfigError, match=r"templates\.network: .*missing\.yaml cannot be read"):
        templates.template_body(config, "network")

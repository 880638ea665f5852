"""The project's CloudFormation templates and the values they are given.

An output has the same key as the parameter it feeds, so a template's parameters are filled by name from one flat
dict: values of onnxship.yaml, outputs of earlier stacks, live values.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from pipeline.config import Config, Service
from pipeline.errors import ConfigError
from pipeline.template_checks import check, parse
from pipeline.words import counted

TEMPLATES = (
    *("delivery", "registry", "network", "cluster", "runtime"),
    *("service", "observability", "cost", "billing"),
)
PROJECT_TAG, ENVIRONMENT_TAG = "onnxship:project", "onnxship:environment"
# Beyond the load itself the gate may take this long; ECS's own limit for the hook is set to 30 minutes by the template.
GATE_SLACK_MINUTES = 10
TASK_START_MINUTES = 5  # two gates in the VPC are two tasks, and Fargate takes a minute or two to start each
MAX_HOOK_MINUTES = 30
MAX_GRACE_S = 7200  # what the template takes
MAX_CIDRS = 4
MAX_NOTIFIED = 3


@dataclass(frozen=True, slots=True)
class StackSpec:
    """A stack as it should be. No template: the one it has; a parameter that is None: the value it has.

    `region` is None for the environment's own.
    """

    name: str
    template_body: str | None
    parameters: Mapping[str, str | None]
    tags: Mapping[str, str]
    region: str | None = None


def stack_spec(
    config: Config, template: str, values: Mapping[str, str], *, service: str | None = None, region: str | None = None
) -> StackSpec:
    """The stack of a template, its parameters filled from onnxship.yaml and `values`."""
    body = template_body(config, template)
    return StackSpec(
        name=config.stack_name(template, service),
        template_body=body,
        parameters=fill(template, body, {**values_of_config(config, service), **values}),
        tags={PROJECT_TAG: config.project, ENVIRONMENT_TAG: config.environment_name},
        region=region,
    )


class _CfnLoader(yaml.SafeLoader):
    """YAML in which CloudFormation's short tags (!Ref, !Sub ...) stand for nothing but themselves."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_CfnLoader.add_multi_constructor("!", _tagged)


def template_body(config: Config, template: str) -> str:
    """The text of `cloudformation/<template>.yaml`, in a clone and in a wheel alike, or of the user's own in its place.

    Raises ConfigError when the user's breaks a rule of `pipeline.template_checks`; the project's own are tested.
    """
    if template not in config.templates:
        return files("cloudformation").joinpath(f"{template}.yaml").read_text()
    path = config.file(config.templates[template])
    try:
        body = path.read_text()
        faults = check(parse(body))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"templates.{template}: {path} cannot be read: {error}", f"correct `templates.{template}` or remove it"
        ) from error
    if faults:
        raise ConfigError(
            f"templates.{template}: {path} breaks {counted(len(faults), 'rule')}.",
            "correct the resources named above, or remove the key to use the project's own template",
            details=tuple(faults),
        )
    return body


def template_hashes(config: Config) -> dict[str, str]:
    """The sha256 of every template, as a release's record keeps them."""
    return {name: hashlib.sha256(template_body(config, name).encode()).hexdigest() for name in TEMPLATES}


def parameters_of(body: str) -> dict[str, bool]:
    """The template's parameters by name; true for those that must be given because they have no default."""
    # A SafeLoader that only learned AWS's tags.
    declared = yaml.load(body, Loader=_CfnLoader).get("Parameters") or {}  # noqa: S506
    return {name: "Default" not in parameter for name, parameter in declared.items()}


def fill(template: str, body: str, values: Mapping[str, str]) -> dict[str, str | None]:
    """The template's parameters from `values`, by name. Raises ConfigError naming those that nothing provides."""
    declared = parameters_of(body)
    missing = [name for name, is_required in declared.items() if is_required and name not in values]
    if missing:
        raise ConfigError(
            f"cloudformation/{template}.yaml needs {', '.join(missing)}, which no earlier stack or setting provides.",
            "run `onnxship deploy`, which brings the stacks up in their order",
        )
    return {name: values[name] for name in declared if name in values}


def values_of_config(config: Config, service: str | None = None) -> dict[str, str]:
    """What onnxship.yaml says, under the names of the templates' parameters."""
    values = {
        "Project": config.project,
        "Environment": config.environment_name,
        "VpcCidr": config.network.vpc_cidr,
        "Egress": config.network.egress,
        "Scheme": config.edge.scheme,
        "ProductionPort": str(config.edge.listens_on),
        "TestPort": str(config.edge.test_port),
        "CertificateArn": config.edge.certificate_arn or "",
        "MonthlyUsd": f"{config.cost.monthly_usd:.10g}",
        **_numbered("IngressCidr", config.edge.ingress_cidrs, MAX_CIDRS),
        **_numbered("NotifyEmail", config.cost.notify, MAX_NOTIFIED),
    }
    return values | (_values_of_service(service, config.services[service]) if service else {})


def _values_of_service(name: str, service: Service) -> dict[str, str]:
    compared_s = service.gate.against_live.duration_s if service.gate.against_live else 0
    hook_minutes = math.ceil((service.gate.load.duration_s + compared_s) / 60) + GATE_SLACK_MINUTES
    hook_minutes += TASK_START_MINUTES if service.gate.from_ == "vpc" else 0
    return {
        "Service": name,
        "SecretArns": ",".join(dict.fromkeys(_secret_arn(value) for value in service.secrets.values())),
        "ApiKeysSecretArn": service.api_keys_secret_arn,
        "RulePriority": str(service.route.priority),
        "PathPatterns": ",".join(service.route.paths),
        "MinTasks": str(service.compute.min),
        "MaxTasks": str(service.compute.max),
        **_values_of_rollout(service),
        "HookTimeoutMinutes": str(min(MAX_HOOK_MINUTES, hook_minutes)),
        # Until its start deadline a task may be unready without ECS replacing it.
        "HealthCheckGracePeriodSeconds": str(min(MAX_GRACE_S, service.rollout.start_deadline_s)),
    }


def _values_of_rollout(service: Service) -> dict[str, str]:
    rollout = service.rollout
    return {
        "Strategy": rollout.strategy,
        "CanaryPercent": f"{rollout.canary_step.percent:g}",
        "CanaryBakeMinutes": str(rollout.canary_step.bake_minutes),
        "LinearStepPercent": f"{rollout.linear_steps.step_percent:g}",
        "LinearStepBakeMinutes": str(rollout.linear_steps.step_bake_minutes),
        "MaximumPercent": str(rollout.maximum_percent(service.compute.min)),
        "BakeMinutes": str(rollout.bake_minutes),
    }


def _secret_arn(reference: str) -> str:
    """The secret itself; what the task definition names may go on with a JSON key, a version stage and id.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
    """
    return ":".join(reference.split(":")[:7])


def _numbered(name: str, values: list[str], count: int) -> dict[str, str]:
    """`name`1 .. `name`<count>, the ones without a value empty."""
    return {f"{name}{i + 1}": values[i] if i < len(values) else "" for i in range(count)}

"""Looks at all that a release needs, one check at a time, and says what to do about each that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.aws.cloudformation import describe_stack
from pipeline.aws.session import Aws
from pipeline.building.docker import require_docker
from pipeline.config import Config, Service
from pipeline.errors import PipelineError
from pipeline.golden_inputs import load_golden
from pipeline.onnx_model import inspect_model
from pipeline.results import Check, Checkup

BILLING_REGION = "us-east-1"
TOPIC_OUTPUTS = ("CostTopicArn", "AlarmTopicArn", "BillingTopicArn")


def doctor(config: Config, aws: Aws) -> Checkup:
    """Every check, the failed ones too. Reads only."""
    checks = [_identity(config, aws)]
    for name, service in config.services.items():
        checks += [_model(config, name, service), _golden(config, name, service), _builder(name, service)]
    if checks[0].ok:
        checks += _stacks(config, aws)
        checks += _attempt("e-mail", lambda: list(_subscriptions(config, aws)))
    return Checkup(tuple(checks))


def _identity(config: Config, aws: Aws) -> Check:
    try:
        identity = aws.call("sts", "get_caller_identity")
    except PipelineError as error:
        return Check("identity", False, error.what, error.remedy)
    where = f" at {aws.endpoint_url} (not AWS)" if aws.endpoint_url else ""
    detail = f"{identity['Arn']} in {config.environment.region}{where}"
    if identity["Account"] != config.environment.account:
        return Check(
            "identity", False, f"{detail}; environment `{config.environment_name}` is {config.environment.account}",
            f"sign in to {config.environment.account}, or choose the environment with `--env`",
        )  # fmt: skip
    return Check("identity", True, detail)


def _model(config: Config, name: str, service: Service) -> Check:
    path = config.file(service.model.path)
    try:
        signature = inspect_model(path)
    except PipelineError as error:
        return Check(f"{name}: model", False, error.what, error.remedy)
    detail = f"{path.name}, {path.stat().st_size:,} bytes, opset {signature.opset}"
    return Check(f"{name}: model", True, detail)


def _golden(config: Config, name: str, service: Service) -> Check:
    label = f"{name}: golden inputs"
    try:
        golden = load_golden(config.file(service.model.golden), inspect_model(config.file(service.model.path)))
    except PipelineError as error:
        return Check(label, False, error.what, error.remedy)
    labels = "" if golden.expected is not None else "; no `expected`: quality will not be judged"
    return Check(label, True, f"{golden.rows} rows{labels}")


def _builder(name: str, service: Service) -> Check:
    label = f"{name}: builder"
    if service.image.builder != "docker":
        return Check(label, True, f"`{service.image.builder}` needs no Docker")
    try:
        docker = require_docker()
    except PipelineError as error:
        return Check(label, False, error.what, error.remedy)
    how = "buildx" if docker.has_buildx else "its own BuildKit"
    return Check(label, True, f"Docker {docker.client_version} with {how}")


def _stacks(config: Config, aws: Aws) -> list[Check]:
    names = [config.stack_name(template) for template in ("registry", "network", "cluster", "cost")]
    for service in config.services:
        names += [config.stack_name(template, service) for template in ("runtime", "service", "observability")]
    checks: list[Check] = []
    for name in names:
        checks += _attempt(name, lambda name=name: [_stack(aws, name)])  # type: ignore[misc]
    return checks


def _stack(aws: Aws, name: str) -> Check:
    stack = describe_stack(aws, name)
    if stack is None:
        next_step = "onnxship bootstrap" if name.endswith("-registry") else "onnxship ship"
        return Check(f"stack {name}", not name.endswith("-registry"), "not created yet", f"run `{next_step}`")
    ok = stack.status.endswith("_COMPLETE") and not stack.status.startswith(("ROLLBACK", "DELETE"))
    detail = f"{stack.status} {stack.status_reason}".strip()
    return Check(f"stack {name}", ok, detail, "" if ok else "`onnxship deploy` waits, cleans up or says what to do")


def _subscriptions(config: Config, aws: Aws) -> Iterator[Check]:
    places: list[tuple[str, str | None]] = [(config.stack_name("cost"), None)]
    places += [(config.stack_name("observability", service), None) for service in config.services]
    places.append((config.stack_name("billing"), BILLING_REGION))
    for name, region in places:
        stack = describe_stack(aws, name, region=region)
        for key in TOPIC_OUTPUTS:
            if stack and (topic := stack.outputs.get(key)):
                yield from _topic(aws, topic, region)


def _topic(aws: Aws, topic: str, region: str | None) -> Iterator[Check]:
    listed = aws.pages("sns", "list_subscriptions_by_topic", "Subscriptions", region=region, TopicArn=topic)
    for subscription in listed:
        if subscription["Protocol"] == "email":
            ok = subscription["SubscriptionArn"].startswith("arn:")
            detail = f"{subscription['Endpoint']} on {topic.rsplit(':', 1)[-1]}"
            remedy = "" if ok else f"open the confirmation that AWS sent to {subscription['Endpoint']}"
            yield Check("e-mail", ok, detail + ("" if ok else " is not confirmed"), remedy)


def _attempt(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or one that says why they could not be made."""
    try:
        return look()
    except PipelineError as error:
        return [Check(name, False, error.what, error.remedy)]

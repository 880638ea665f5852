"""`onnxship alarms`: the alarms on cost, and whether anybody would hear them.

`cost` watches the account's budget and the running tasks in the service's region; `billing` watches the estimated
charges, whose metric exists in us-east-1 only.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline import stacks, templates
from pipeline.aws.cloudformation import outputs
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.results import Alarmed
from pipeline.stacks import Stacks
from pipeline.templates import StackSpec
from pipeline.waiting import Clock

BILLING_REGION = "us-east-1"
PENDING = "PendingConfirmation"
LASTING_MINUTES = 45  # of shift and bake; with start, gate and clean-up such a deployment may fill the alarm's hour


def alarms(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Alarmed:
    """Bring up the stacks `cost` and `billing`, and say who has confirmed the subscription.

    `subscriptions` maps each address to `confirmed` or `pending`; an address still pending at one topic is pending.
    With `dry_run` only reads are made; the stacks say `would-create`, `would-update` or `unchanged`.
    """
    work = Stacks(aws, clock, config.poll_interval_s, on_progress)
    specs = _specs(config, _cluster_name(config, aws, dry_run=dry_run))
    changes = tuple(stacks.difference(aws, spec) if dry_run else work.bring_up(spec) for spec in specs)
    subscriptions = _subscriptions(aws, specs)
    for address, state in subscriptions.items():
        if state == "pending":
            on_progress(f"{address} has not confirmed yet: nothing reaches it until it does")
    return Alarmed(changes, config.cost.monthly_usd, subscriptions)


def _cluster_name(config: Config, aws: Aws, *, dry_run: bool) -> str:
    if dry_run:
        # Before the first deploy there is none yet, and the stacks are absent anyway.
        return outputs(aws, config.stack_name("cluster")).get("ClusterName", "")
    remedy = "run `onnxship deploy` first: the alarms watch the cluster that it makes"
    return stacks.required_outputs(aws, config.stack_name("cluster"), remedy)["ClusterName"]


def max_tasks(config: Config) -> int:
    """The most tasks that may run for the alarm's hour; twice as many and a gate's own when deployments last it.

    Old and new tasks stand side by side until the bake is over; ROLLING has none.
    """
    most = sum(service.compute.max for service in config.services.values())
    rollouts = [service.rollout for service in config.services.values() if service.rollout.is_gated]
    lasting_minutes = max((rollout.shift_minutes + rollout.bake_minutes for rollout in rollouts), default=0)
    return 2 * most + 1 if lasting_minutes >= LASTING_MINUTES else most


def _specs(config: Config, cluster_name: str) -> tuple[StackSpec, ...]:
    values = {"ClusterName": cluster_name, "MaxTasks": str(max_tasks(config))}
    return (
        templates.stack_spec(config, "cost", values),
        templates.stack_spec(config, "billing", values, region=BILLING_REGION),
    )


def _subscriptions(aws: Aws, specs: tuple[StackSpec, ...]) -> dict[str, str]:
    states: dict[str, str] = {}
    for spec in specs:
        for name, topic in outputs(aws, spec.name, region=spec.region).items():
            if not name.endswith("TopicArn"):
                continue
            found = aws.pages("sns", "list_subscriptions_by_topic", "Subscriptions", region=spec.region, TopicArn=topic)
            for subscription in found:
                is_pending = subscription["SubscriptionArn"] == PENDING
                address = subscription["Endpoint"]
                states[address] = "pending" if is_pending or states.get(address) == "pending" else "confirmed"
    return states

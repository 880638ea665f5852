"""Rules on alarms, scaling and budgets: what measures must be able to fire."""

from __future__ import annotations

from pipeline.template_checks.reading import Faults, Template, is_true, items, mentions, target
from pipeline.template_checks.traffic import governed

ALARM = "AWS::CloudWatch::Alarm"


def alarms_say_what_missing_data_means(template: Template) -> Faults:
    """Left out, it is `missing`, which nobody chose."""
    for logical_id, alarm in template.of_type(ALARM):
        if "TreatMissingData" not in alarm:
            yield logical_id, "does not say what missing data means; set TreatMissingData"


def alarms_measure_one_thing(template: Template) -> Faults:
    """Either one metric with a statistic, or metric math of which exactly one result counts."""
    for logical_id, alarm in template.of_type(ALARM):
        metrics = items(alarm.get("Metrics"))
        # ReturnData is true where it is left out.
        returned = [metric for metric in metrics if is_true(metric.get("ReturnData", True))]
        if metrics and len(returned) != 1:
            yield logical_id, f"returns {len(returned)} results; exactly one metric has ReturnData: true"
        if not metrics and not ({"Statistic", "ExtendedStatistic"} & set(alarm)):
            yield logical_id, "has no statistic; set Statistic or ExtendedStatistic"


def rollback_alarms_watch_both_groups(template: Template) -> Faults:
    """Blue and green change places; an alarm on one of them watches the wrong one half of the time."""
    for entry in governed(template):
        deployment = template.properties(entry.service).get("DeploymentConfiguration") or {}
        for name in items((deployment.get("Alarms") or {}).get("AlarmNames")):
            alarm = template.properties(target(name))
            for group in entry.groups:
                if alarm and group and not mentions(alarm, group):
                    yield str(target(name)), f"does not watch {group}; rollback alarms watch both target groups"


def scaling_follows_the_traffic(template: Template) -> Faults:
    """The predefined request metric names one target group and does not follow a shift.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-autoscaling-targettracking.html
    """
    for logical_id, policy in template.of_type("AWS::ApplicationAutoScaling::ScalingPolicy"):
        tracking = policy.get("TargetTrackingScalingPolicyConfiguration") or {}
        kind = (tracking.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
        if str(kind).startswith("ALBRequestCountPerTarget"):
            yield logical_id, f"scales on {kind}, which stays with one target group; sum both in metric math"


def budgets_tell_somebody(template: Template) -> Faults:
    """A budget without subscribers warns nobody."""
    for logical_id, budget in template.of_type("AWS::Budgets::Budget"):
        notified = items(budget.get("NotificationsWithSubscribers"))
        if not notified or not all(items(notification.get("Subscribers")) for notification in notified):
            yield logical_id, "warns nobody; set NotificationsWithSubscribers with subscribers in each"


RULES = (
    alarms_say_what_missing_data_means,
    alarms_measure_one_thing,
    rollback_alarms_watch_both_groups,
    scaling_follows_the_traffic,
    budgets_tell_somebody,
)

"""What AWS's documents leave open or contradict, one switch each, so that a story can run under both behaviours.

Each default is the reading that the named document, or a deployment somebody observed, supports best.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True)
class OpenQuestions:
    """One field per open question about ECS."""

    # The creation of a service is a service deployment, and a PRE_SCALE_UP hook was seen to fail one:
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html ("A user creates a service").
    hooks_at_creation: bool = True

    # Seen as "No rollback candidate was found to run the rollback."; the page above has STOPPED as well, and
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html no word on it.
    failed_first_deployment: Literal["ROLLBACK_FAILED", "STOPPED"] = "ROLLBACK_FAILED"
    failed_first_deployment_keeps_tasks: bool = False

    # Which of its two target groups the first revision of a service gets: undocumented.
    first_target_group: Literal["primary", "alternate"] = "primary"

    # API_DeploymentCircuitBreaker says "rolling update only"; deployment-failure-detection.html and Terraform's
    # acceptance test against AWS ("... because the circuit breaker threshold was exceeded") say blue/green too.
    breaker_under_blue_green: bool = True

    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html: "ignored"; others
    # report that the deployment fails at once.
    alarm_already_in_alarm: Literal["ignore", "roll back"] = "ignore"

    # How long a rolling deployment watches its alarms after the tasks are replaced: "computed by Amazon ECS".
    rolling_alarm_bake_minutes: float = 3.0

    # Where a rolling deployment's tasks go after a blue/green one left the alternate group serving: ECS keeps to "the
    # current active service revision that is serving traffic"
    # (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/update-bluegreen-to-rolling.html), or to the letter
    # of targetGroupArn.
    rolling_target_group: Literal["serving", "primary"] = "serving"

    # API_UpdateService: a deployment starts when a property that needs one is *changed*; whether an unchanged task
    # definition that is passed explicitly counts is undocumented.
    unchanged_task_definition_deploys: bool = False

    # What a deployment does to the one that still runs, at its gate for instance. The stage RECONCILE_SERVICE "only
    # happens when you start a new service deployment with more than 1 service revision in an ACTIVE state"
    # (API_ServiceDeployment), so one can be started, and UpdateService has no error for it; whether the running one
    # is STOPPED or rolled back is not said. Against that "a service deployment has been created, but has not started"
    # (PENDING, https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html) is a queue, and
    # CodeDeploy refuses a second deployment with DeploymentLimitExceededException
    # (https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_CreateDeployment.html).
    update_during_deployment: Literal["supersede", "roll back", "wait", "refuse"] = "supersede"

    # Whether a stack update that begins no deployment (a grace period) waits for one that runs. CloudFormation waits
    # until "the service meets stabilization criteria"
    # (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-resource-configuration-complete.html);
    # what those are for a deployment that is not its own is undocumented.
    stack_waits_for_running_deployment: bool = True

    # Undocumented: does the test rule go back to blue, too, when production does?
    test_rule_returns_on_rollback: bool = True

    # "Both ... must be associated with the productionListenerRule or testListenerRule"
    # (troubleshooting-blue-green.html) reads either way; the stricter reading is the default.
    production_rule_holds_both_groups: bool = True

    # A governed rule that authenticates before it forwards: undocumented.
    mixed_rule_actions: Literal["keep", "refuse"] = "keep"

    # API_StopServiceDeployment lists ABORT among the values and says "The valid values are ROLLBACK".
    abort_is_accepted: bool = True

    @classmethod
    def parse(cls, words: list[str]) -> OpenQuestions:
        """From `name=value` words, as a command line gives them; ValueError says what there is to choose from."""
        hints, known = get_type_hints(cls), {field.name for field in fields(cls)}
        answers: dict[str, Any] = {}
        for word in words:
            name, _, value = word.partition("=")
            if name not in known:
                raise ValueError(f"no open question {name!r}; there are {', '.join(sorted(known))}")
            answers[name] = _read(name, value, hints[name])
        return cls(**answers)


def _read(name: str, value: str, kind: Any) -> Any:
    if kind is float:
        return float(value)
    choices = {"true": True, "false": False} if kind is bool else {choice: choice for choice in get_args(kind)}
    if value not in choices:
        raise ValueError(f"{name}={value}: choose one of {', '.join(choices)}")
    return choices[value]

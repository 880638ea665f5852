"""Releases that must not stay, on a real rehearsal: each ends as in AWS, in AWS's words, and production goes back."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.rehearsal.ecs.servers import BREAKER, Clients, Service, definition, until


@pytest.fixture(scope="module")
def services(here):
    """Services created side by side, each used by one test; all have their first release in production."""
    made = {name: Service(here, name) for name in ("sick", "missing", "rules", "faulty")}
    made["crashing"] = Service(here, "crashing", deploymentCircuitBreaker=BREAKER)
    for service in made.values():
        assert service.finished()["status"] == "SUCCESSFUL"
    return made


@pytest.fixture
def service(services):
    return services.__getitem__


def test_an_image_that_crashes_at_start_trips_the_breaker(here, service):
    """Crash after crash is counted, the reason is in the logs, and production never leaves the first release."""
    crashing = service("crashing")
    arn = definition(here, "crashing", "bad", EXIT="1")
    with Clients(crashing) as answers:
        crashing.update(taskDefinition=arn)
        finished = crashing.finished()
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["deploymentCircuitBreaker"]["status"] == "TRIGGERED"
    failed = [task for task in crashing.stopped() if task["taskDefinitionArn"] == arn]
    crash = next(task for task in failed if task["stopCode"] == "EssentialContainerExited")
    assert crash["stoppedReason"] == "Essential container in task exited"
    assert crash["containers"][0]["exitCode"] == 1
    stream = f"model/model/{crash['taskArn'].rsplit('/', 1)[1]}"
    events = here.logs.get_log_events(logGroupName="/servers", logStreamName=stream)["events"]
    assert [event["message"] for event in events] == ["cannot load the model"]
    assert set(answers) == {(200, "r1")}


def test_a_release_that_fails_its_health_checks_is_stopped_with_the_balancers_words(here, service):
    """After the grace period a 503 on the health check stops the task, in ECS's own sentence; ROLLBACK ends it."""
    sick = service("sick")
    sick.update(taskDefinition=definition(here, "sick", "bad", HEALTH="503"))
    stopped = until(lambda: sick.tasks("STOPPED"), sick.describe)[0]
    assert stopped["stoppedReason"] == (
        f"Task failed ELB health checks in (target-group {sick.groups[1]})"
        " (Health checks failed with these codes: [503])"
    )
    arn = sick.deployment()["serviceDeploymentArn"]
    here.ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    assert sick.finished()["status"] == "ROLLBACK_SUCCESSFUL"
    assert sick.describe()["taskDefinition"].endswith(":1")
    assert sick.get().text == "r1"
    with pytest.raises(ClientError, match="terminal states") as refused:
        here.ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    assert refused.value.response["Error"]["Code"] == "ConflictException"


def test_an_alarm_on_what_users_see_takes_production_back(here, service):
    """A release that answers 500 shows in the balancer's metrics; its alarm ends the bake and blue serves again."""
    faulty = service("faulty")
    balancer = here.listeners[0]["LoadBalancerArn"].partition("loadbalancer/")[2]
    dimensions = {"LoadBalancer": balancer, "TargetGroup": faulty.groups[1].rpartition(":")[2]}
    here.cloudwatch.put_metric_alarm(
        AlarmName="faulty-5xx",
        Namespace="AWS/ApplicationELB",
        MetricName="HTTPCode_Target_5XX_Count",
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )
    alarms = {"alarmNames": ["faulty-5xx"], "enable": True, "rollback": True}
    config = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 30, "alarms": alarms}
    with Clients(faulty) as answers:
        faulty.update(taskDefinition=definition(here, "faulty", "bad", STATUS="500"), deploymentConfiguration=config)
        finished = faulty.finished()
        assert faulty.get().text == "r1"
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["alarms"] == {
        "status": "TRIGGERED",
        "alarmNames": ["faulty-5xx"],
        "triggeredAlarmNames": ["faulty-5xx"],
    }
    assert set(answers) == {(200, "r1"), (500, "bad")}


def test_an_image_that_is_not_there_fails_the_task_with_the_pull_error(here, service):
    """A tag that nobody pushed: TaskFailedToStart with CannotPullContainerError; production stays."""
    missing = service("missing")
    missing.update(taskDefinition=definition(here, "missing", image=here.image.replace(":v1", ":gone")))
    failed = until(lambda: missing.tasks("STOPPED"), missing.describe)[0]
    assert failed["stopCode"] == "TaskFailedToStart"
    assert failed["stoppedReason"].startswith("CannotPullContainerError: pull image manifest has been retried")
    assert failed["containers"][0]["reason"] == failed["stoppedReason"]
    assert missing.get().text == "r1"


def test_a_production_rule_without_the_other_target_group_rolls_back_in_awss_words(here, service):
    """Somebody took green out of the rule: no task starts, and the reason is AWS's sentence."""
    rules = service("rules")
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": rules.groups[0], "Weight": 1}]}}
    here.elbv2.modify_rule(RuleArn=rules.rules[0], Actions=[action])
    rules.update(taskDefinition=definition(here, "rules", "r2"))
    finished = rules.finished()
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["statusReason"] == (
        "Service deployment rolled back because of invalid networking configuration. Both targetGroup and"
        " alternateTargetGroup must be associated with the productionListenerRule or testListenerRule."
    )
    assert rules.get().text == "r1"

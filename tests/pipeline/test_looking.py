"""Status, history, logs and doctor: what they say, and that looking changes nothing."""

from dataclasses import dataclass

import pytest
import yaml

from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import LockPlace, acquire
from pipeline.aws.session import Aws
from pipeline.errors import AwsError
from pipeline.results import Outcome
from pipeline.stages.doctor import doctor
from pipeline.stages.history import history
from pipeline.stages.logs import logs
from pipeline.stages.status import status
from tests.pipeline.ecs_world import GATE, NEW, OLD, OTHER, World


@dataclass
class Account(World):
    """The small ECS, with a load balancer, and moto's real S3 for the ledger."""

    aws: Aws | None = None
    bucket: str = ""

    def call(self, service, operation, /, *, region=None, **request):
        if service == "s3":
            return self.aws.call(service, operation, **request)
        return super().call(service, operation, region=region, **request)

    def pages(self, service, operation, key, /, **request):
        return self.aws.pages(service, operation, key, **request)

    def _describe_stacks(self, StackName):  # noqa: N803
        stack = {"StackName": StackName, "StackId": "1", "StackStatus": "CREATE_COMPLETE"}
        extra = {"ProductionRuleArn": "prod", "TestRuleArn": "test"}
        extra |= {"BlueTargetGroupArn": "tg-b", "GreenTargetGroupArn": "tg-g", "ServiceName": "svc"}
        if StackName.endswith("-registry"):
            extra = {"ArtifactBucketName": self.bucket}
        elif not StackName.endswith("-service"):
            return super()._describe_stacks(StackName)
        return {"Stacks": [stack | {"Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in extra.items()]}]}

    def _describe_task_definition(self, taskDefinition, **_):  # noqa: N803
        answer = super()._describe_task_definition(taskDefinition)
        answer["tags"][0]["value"] = {OLD: "v1", NEW: "v2", OTHER: "v3"}[taskDefinition]
        return answer

    def _describe_rules(self, RuleArns):  # noqa: N803
        weights = [{"TargetGroupArn": "tg-b", "Weight": 100}, {"TargetGroupArn": "tg-g", "Weight": 0}]
        return {"Rules": [{"Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}]}]}

    def _describe_target_health(self, TargetGroupArn):  # noqa: N803
        states = ["healthy", "healthy", "draining"] if TargetGroupArn == "tg-b" else []
        listed = [{"Target": {"Id": "10.0.0.1", "Port": 8080}, "TargetHealth": {"State": s}} for s in states]
        return {"TargetHealthDescriptions": listed}


@pytest.fixture
def account(aws, bucket, clock) -> Account:
    """Release v1 serves, as the ledger says."""
    account = Account(clock, aws=aws, bucket=bucket)
    ledger = Ledger(account, bucket, "test", "tiny")
    draft = ledger.open_draft("v1", started_at="t0", task_definition_arn=OLD, git_sha="0123456789", who="ann")
    ledger.close(draft, Outcome.LIVE, "every gate passed", finished_at="2026-11-20T00:00:00+00:00")
    return account


def test_status_says_what_serves_and_that_the_ledger_agrees(config, account):
    """Release, weights, targets by state, alarms, the lock; nothing but reads was sent."""
    account.calls.clear()

    result = status(config, account, service="tiny")

    assert (result.release_id, result.task_definition_arn, result.ledger) == ("v1", OLD, "agrees with ECS")
    blue, green = result.target_groups
    assert (blue.production_weight, blue.targets) == (100, {"healthy": 2, "draining": 1})
    assert (green.production_weight, green.targets) == (0, {})
    assert (result.alarms, result.lock, result.deployments) == ({"p-e-s-5xx": "OK"}, "free", ())
    assert {name.split("_")[0] for name, _ in account.calls} <= {"describe", "list", "get"}


def test_status_shows_a_deployment_that_waits_and_the_command_that_answers_it(config, account):
    """Also who holds the lock."""
    acquire(account, LockPlace(account.bucket, "test", "tiny"), holder="ben")
    moving = account.start(OTHER)
    moving.status, moving.at, moving.hook = "IN_PROGRESS", 5, "AWAITING_ACTION"

    result = status(config, account, service="tiny")

    (running,) = result.deployments
    assert (running.stage, running.task_definition_arn) == (GATE, OTHER)
    assert running.answer == "onnxship abort --env test --service tiny"
    assert result.lock.startswith("held by ben since ")


def test_status_says_when_ecs_runs_what_nobody_recorded(config, account):
    """ECS is right, and the disagreement is in words."""
    moving = account.start(OTHER)
    moving.status, moving.at = "SUCCESSFUL", 9
    moving.created_at = account.clock.now()

    result = status(config, account, service="tiny")

    assert result.task_definition_arn == OTHER
    assert "names v1, but ECS runs release v3 without a record" in result.ledger
    assert "`onnxship rollback RELEASE --env test --service tiny`" in result.ledger


@pytest.mark.parametrize("status_and_stage", [("IN_PROGRESS", 8), ("SUCCESSFUL", 9)])
def test_status_names_an_interrupted_release_that_went_live_and_how_to_finish_it(config, account, status_and_stage):
    """While it bakes by its weight, afterwards by its deployment: v2 serves, and the ledger does not know yet."""
    ledger = Ledger(account, account.bucket, "test", "tiny")
    ledger.open_draft("v2", started_at="t1", task_definition_arn=NEW, allow_dirty=True)
    moving = account.start(NEW)
    moving.status, moving.at = status_and_stage
    account.stays_at = "BAKE_TIME"

    result = status(config, account, service="tiny")

    assert ("v2", NEW) == (result.release_id, result.task_definition_arn)
    assert result.ledger == (
        "names v1; release v2 serves without a record: "
        "`onnxship ship --release v2 --allow-dirty --env test --service tiny` finishes it"
    )


def test_status_leaves_the_record_to_a_run_that_still_holds_the_lock(config, account):
    """A ship whose release bakes writes it itself."""
    Ledger(account, account.bucket, "test", "tiny").open_draft("v2", started_at="t1")
    acquire(account, LockPlace(account.bucket, "test", "tiny"), holder="ben")
    moving = account.start(NEW)
    moving.status, moving.at, account.stays_at = "IN_PROGRESS", 8, "BAKE_TIME"

    result = status(config, account, service="tiny")

    assert "names v1; release v2 gets its record from the run that holds the lock" == result.ledger


def test_before_the_shift_the_old_release_still_serves(config, account):
    """A deployment without production's weight changes nothing."""
    moving = account.start(NEW)
    moving.status, moving.at, moving.hook = "IN_PROGRESS", 5, "AWAITING_ACTION"

    result = status(config, account, service="tiny")

    assert ("v1", "agrees with ECS") == (result.release_id, result.ledger)


def test_history_lists_the_newest_first(config, account):
    """With outcome, commit and person."""
    ledger = Ledger(account, account.bucket, "test", "tiny")
    draft = ledger.open_draft("v2", started_at="t1")
    ledger.close(draft, Outcome.REFUSED, "gate", finished_at="2026-11-20T01:00:00+00:00")

    result = history(config, account, service="tiny")

    assert [(line.release_id, line.outcome) for line in result.releases] == [
        ("v2", Outcome.REFUSED), ("v1", Outcome.LIVE),
    ]  # fmt: skip
    assert (result.current, result.releases[1].git_sha, result.releases[1].who) == ("v1", "0123456", "ann")


def test_history_shows_an_abandoned_release_at_the_top(config, account):
    """A release without a record, and nobody holds the lock: where its run vanished, and how to go on."""
    draft = Ledger(account, account.bucket, "test", "tiny").open_draft("v2", started_at="t1", who="ben")
    draft.intend("ecs:UpdateService svc arn:aws:ecs:eu-west-1:111122223333:task-definition/p-e-s:2")

    newest, before = history(config, account, service="tiny").releases

    assert (newest.release_id, newest.outcome, newest.who) == ("v2", Outcome.ABANDONED, "ben")
    assert newest.reason == "no run is at it any more; last: ecs:UpdateService svc p-e-s:2"
    assert newest.goes_on_with == "onnxship ship --release v2 --env test --service tiny"
    assert before.release_id == "v1"


def test_history_tells_what_interrupted_a_release(config, account):
    """Ctrl-C is no vanished run; files that were not committed need their option again."""
    draft = Ledger(account, account.bucket, "test", "tiny").open_draft("v2", started_at="t1", allow_dirty=True)
    draft.intend("publish")
    with pytest.raises(KeyboardInterrupt), draft.interruptible(account.clock.now):
        raise KeyboardInterrupt

    newest = history(config, account, service="tiny").releases[0]

    assert newest.outcome is Outcome.INTERRUPTED
    assert newest.reason == "stopped by Ctrl-C at 2026-11-21T00:00:00Z, at: publish"
    assert newest.goes_on_with == "onnxship ship --release v2 --allow-dirty --env test --service tiny"


def test_history_tells_the_release_that_a_run_is_at_from_an_abandoned_one(config, account):
    """The fence in the draft is that of the lock which is held now."""
    ledger, place = Ledger(account, account.bucket, "test", "tiny"), LockPlace(account.bucket, "test", "tiny")
    ledger.open_draft("v2", started_at="t1", fence=acquire(account, place, holder="ben").fence)
    lease = acquire(account, place, holder="ann", preempt=True)
    ledger.open_draft("v3", started_at="t2", fence=lease.fence).intend("build")

    lines = history(config, account, service="tiny").releases

    assert [("v3", Outcome.OPEN), ("v2", Outcome.ABANDONED), ("v1", Outcome.LIVE)] == [
        (line.release_id, line.outcome) for line in lines
    ]


@pytest.fixture
def log_group(aws, clock, monkeypatch) -> str:
    """A service whose runtime stack names a log group with two tasks' lines."""
    outputs = {
        "service": {"ServiceName": "svc"},
        "cluster": {"ClusterName": "c", "LoadBalancerDnsName": "lb", "LoadBalancerSecurityGroupId": "sg"},
        "runtime": {"GateSecretArn": "arn", "LogGroupName": "/logs"},
    }
    names = {"service": "demo-test-tiny-service", "cluster": "demo-test-cluster", "runtime": "demo-test-tiny-runtime"}
    for kind, values in outputs.items():
        template = {
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
            "Outputs": {key: {"Value": value} for key, value in values.items()},
        }
        aws.call("cloudformation", "create_stack", StackName=names[kind], TemplateBody=yaml.safe_dump(template))
    aws.call("logs", "create_log_group", logGroupName="/logs")
    for task in ("t1", "t2"):
        aws.call("logs", "create_log_stream", logGroupName="/logs", logStreamName=f"model/model/{task}")
        write(aws, task, "started", clock)
    return "/logs"


def write(aws, task, message, clock) -> None:
    event = {"timestamp": int(clock.now().timestamp() * 1000), "message": f"{task} {message}"}
    aws.call("logs", "put_log_events", logGroupName="/logs", logStreamName=f"model/model/{task}", logEvents=[event])


@pytest.mark.usefixtures("log_group")
def test_logs_of_all_tasks_or_of_one(config, aws, clock):
    """Lines with the task they came from, back to the time asked for."""
    assert {line.message for line in logs(config, aws, clock, service="tiny")} == {"t1 started", "t2 started"}
    assert [line.message for line in logs(config, aws, clock, service="tiny", task_id="t2")] == ["t2 started"]
    clock.sleep(3600)
    assert list(logs(config, aws, clock, service="tiny", since_s=60)) == []


@pytest.mark.usefixtures("log_group")
def test_logs_that_are_followed_show_each_line_once(config, aws, clock):
    """What comes later is added; what was shown is not repeated."""
    lines = logs(config, aws, clock, service="tiny", follow=True)
    first = [next(lines).message, next(lines).message]

    clock.sleep(5)
    write(aws, "t1", "answered", clock)

    assert next(lines).message == "t1 answered"
    assert sorted(first) == ["t1 started", "t2 started"]


def test_doctor_loads_the_model_and_reads_the_golden_inputs(config, aws):
    """Not their size: what `publish` would refuse is refused here."""
    checks = {check.name: check for check in doctor(config, aws).checks}

    assert checks["tiny: model"].detail.startswith("model.onnx, ")
    assert "opset" in checks["tiny: model"].detail
    assert checks["tiny: golden inputs"].detail == "40 rows"


def test_doctor_reports_every_check_and_a_remedy_for_each_that_fails(config, aws, registry_stack, project):
    """A missing model does not hide the checks after it."""
    (project / "model.onnx").unlink()

    checks = {check.name: check for check in doctor(config, aws).checks}

    assert not checks["tiny: model"].ok
    assert "services.<name>.model.path" in checks["tiny: model"].remedy
    assert checks["identity"].ok
    assert checks[f"stack {registry_stack}"].detail == "CREATE_COMPLETE"
    assert checks["stack demo-test-network"].ok
    assert all(check.remedy for check in checks.values() if not check.ok)


def test_doctor_without_credentials_is_a_failed_check_and_no_error(config, project):
    """Nothing further is asked of AWS."""

    class NoCredentials:
        def call(self, *_words, **_request):
            raise AwsError("There are no AWS credentials.", "run `aws sso login`")

    result = doctor(config, NoCredentials())

    assert not result.ok
    assert result.checks[0].remedy == "run `aws sso login`"

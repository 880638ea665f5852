"""Rollback: stop what runs, else deploy a recorded release again; each is an event of the ledger."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import LockPlace, acquire, read_lock
from pipeline.aws.session import Aws
from pipeline.errors import AwsError, GateRefused, Locked, StateUnknown, UsageError
from pipeline.results import GateResult, Outcome, Verdict
from pipeline.stages.rollback import Who, plan_rollback, rollback
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, OLD_DIGEST, OTHER, World

ANN = Who("ann@laptop", "https://ci/run/7")


@pytest.fixture
def config(configure):
    """The gate's caller is known, so nobody is asked for it."""
    return configure(gate__from="runner", gate__runner_cidr="192.0.2.7/32")


@dataclass
class Account(World):
    """The small ECS, with moto's real S3 for the ledger and the lock."""

    aws: Aws | None = None
    bucket: str = ""
    definition_status: str = "ACTIVE"
    images: set[str] = field(default_factory=lambda: {OLD_DIGEST, NEW_DIGEST})

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        if service == "s3" and operation not in self.refuse:
            return self.aws.call(service, operation, **request)
        return super().call(service, operation, region=region, **request)

    def pages(self, service: str, operation: str, key: str, /, **request: Any) -> Any:
        if service == "s3":
            return self.aws.pages(service, operation, key, **request)
        return super().pages(service, operation, key, **request)

    def _describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        if not StackName.endswith("-registry"):
            return super()._describe_stacks(StackName)
        outputs = [{"OutputKey": "ArtifactBucketName", "OutputValue": self.bucket}]
        return {"Stacks": [{"StackName": "r", "StackId": "1", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]}

    def _describe_task_definition(self, taskDefinition: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        answer = super()._describe_task_definition(taskDefinition)
        answer["taskDefinition"]["status"] = self.definition_status
        answer["tags"][0]["value"] = {OLD: "v1", NEW: "v2", OTHER: "v3"}[taskDefinition]
        return answer

    def _describe_images(self, imageIds: list[dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803
        if imageIds[0]["imageDigest"] not in self.images:
            raise AwsError("gone", "", code="ImageNotFoundException")
        return {"imageDetails": [{}]}


@pytest.fixture
def account(aws, bucket, clock) -> Account:
    """v1 was shipped, then v2, which serves."""
    return shipped_twice(Account(clock, aws=aws, bucket=bucket))


def shipped_twice(account: Account) -> Account:
    """v1 was shipped, then v2, which serves."""
    ledger = ledger_of(account)
    for number, (release_id, definition, digest) in enumerate([("v1", OLD, OLD_DIGEST), ("v2", NEW, NEW_DIGEST)]):
        draft = ledger.open_draft(
            release_id, started_at="", task_definition_arn=definition, image_digest=digest, git_sha=f"sha-{release_id}"
        )
        ledger.close(draft, Outcome.LIVE, "passed", finished_at=f"2026-11-20T00:0{number}:00+00:00")
    moving = account.start(NEW)
    moving.status, moving.at = "SUCCESSFUL", 9
    account.clock.sleep(60)
    return account


def ledger_of(account: Account) -> Ledger:
    return Ledger(account, account.bucket, "test", "tiny")


def back(config, account, to=None, verdict=Verdict.PASS, **more):
    def gates_for(record):
        return [lambda _: GateResult("golden", verdict, f"golden of {record.release_id}")]

    return rollback(config, account, account.clock, gates_for, service="tiny", who=ANN, to=to, **more)


def test_back_to_the_release_before(config, account):
    """One gated deployment of the recorded task definition; the pointer, a record and history tell of it."""
    result = back(config, account)

    pointer, ledger = ledger_of(account).current(), ledger_of(account)
    assert (result.how, result.serves, result.replaced, result.task_definition_arn) == ("deployed", "v1", "v2", OLD)
    assert [gate.reason for gate in result.gates] == ["golden of v1"]
    assert account.sent("update_service")[0]["taskDefinition"] == OLD
    assert (pointer.release_id, pointer.event_id) == ("v1", result.event_id)
    event = ledger.record(result.event_id)
    assert (event.event, event.outcome, event.serves, event.who) == ("rollback", Outcome.LIVE, "v1", "ann@laptop")
    assert not read_lock(account, LockPlace(account.bucket, "test", "tiny")).held


def test_what_is_gone_back_to_does_not_bake(config, account):
    """It has proved itself; the next release bakes again as onnxship.yaml says."""
    rollback(config, account, account.clock, lambda _: [], service="tiny", who=ANN)

    assert [0] == account.bake_minutes


def test_forward_again_by_name(config, account):
    """A named release may be newer than the one that serves."""
    back(config, account)
    account.clock.sleep(60)

    assert back(config, account, to="v2").serves == "v2"
    assert ledger_of(account).current().release_id == "v2"


def test_a_release_that_bakes_is_stopped_without_a_new_deployment(config, account):
    """StopServiceDeployment, no UpdateService; the ledger says who did it."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source = "IN_PROGRESS", 8, NEW
    account.stays_at = "BAKE_TIME"

    result = back(config, account)

    assert (result.how, result.serves, result.replaced) == ("stopped-deployment", "v2", "v3")
    assert result.task_definition_arn == NEW
    assert account.sent("update_service") == []
    assert "stopped the deployment of v3" in ledger_of(account).record(result.event_id).reason
    assert ledger_of(account).current().release_id == "v2"


def test_a_bake_that_ends_while_it_is_stopped_is_gone_back_from_all_the_same(config, account):
    """ECS refuses to stop what has just finished: production is then led back by a deployment, not left where it is."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source = "IN_PROGRESS", 8, NEW
    draft = ledger_of(account).open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST)
    draft.note("register", {})

    class Finishing:
        """The last minute of the bake is over when StopServiceDeployment arrives."""

        def __getattr__(self, name):
            return getattr(account, name)

        def call(self, service, operation, /, **request):
            if operation == "stop_service_deployment":
                moving.status = "SUCCESSFUL"
                raise AwsError("it is over", "", code="ClientException")
            return account.call(service, operation, **request)

    result = back(config, Finishing())

    assert (result.how, result.serves, result.task_definition_arn) == ("deployed", "v2", NEW)


def test_back_from_a_release_whose_run_was_killed_before_its_record(config, account):
    """ECS baked on and finished v3, the pointer still names v2: the release before is v2, not v1."""
    ledger = ledger_of(account)
    ledger.open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST, git_sha="sha-v3")
    moving = account.start(OTHER)
    moving.status, moving.at = "SUCCESSFUL", 9
    account.clock.sleep(60)

    result = back(config, account)

    assert (result.serves, result.replaced, result.task_definition_arn) == ("v2", "v3", NEW)
    assert ledger.record("v3").outcome is Outcome.LIVE
    assert ledger.current().release_id == "v2"


def test_stopping_clears_what_a_killed_gate_left(config, account):
    """The test port is closed again, and production may scale out again, without waiting for the next gate."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, moving.hook = "IN_PROGRESS", 5, NEW, "AWAITING_ACTION"
    tags = [{"Key": "onnxship:gate:svc", "Value": "2099-01-01T00:00:00+00:00"}]
    account.ingress = {"sgr-1": {"SecurityGroupRuleId": "sgr-1", "Tags": tags}}
    account.scale_out_suspended = True

    back(config, account)

    assert (account.ingress, account.scale_out_suspended) == ({}, False)


def test_a_gates_task_is_stopped_before_production_is_back(config, account):
    """Its test listener leads to what serves then. What no gate started runs on."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, moving.hook = "IN_PROGRESS", 5, NEW, "AWAITING_ACTION"
    account.gate_tasks = {"task/load": "onnxship-gate", "task/theirs": "ann"}

    back(config, account)

    assert {"task/theirs": "ann"} == account.gate_tasks
    ((at, sent),) = [(n, request) for n, (name, request) in enumerate(account.calls) if name == "stop_task"]
    assert "task/load" == sent["task"]
    assert "stop_service_deployment" in [name for name, _ in account.calls[:at]]
    assert "describe_security_group_rules" not in [name for name, _ in account.calls[:at]]


def test_what_a_killed_gate_left_running_is_stopped_without_a_deployment(config, account):
    """Its deployment timed out and went back long ago; the task is stopped all the same."""
    account.gate_tasks = {"task/load": "onnxship-gate"}

    back(config, account)

    assert {} == account.gate_tasks


def test_a_gate_that_cannot_be_cleared_is_said_and_stops_no_rollback(config, account):
    """Production comes first."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source = "IN_PROGRESS", 8, NEW
    account.stays_at = "BAKE_TIME"
    account.refuse = {"describe_security_group_rules": AwsError("EC2 is away", "wait", code="503")}
    account.refuse["stop_task"] = AwsError("ECS is busy", "wait", code="503")
    account.gate_tasks = {"task/load": "onnxship-gate"}
    lines: list[str] = []

    result = back(config, account, on_progress=lines.append)

    assert result.how == "stopped-deployment"
    assert "the gate's task could not be stopped: ECS is busy" in lines
    assert "could not be cleared: EC2 is away" in lines[-1]


def test_stopping_works_while_s3_is_away(config, account):
    """Production is back first; that it could not be written down is said, not hidden."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source = "IN_PROGRESS", 8, NEW
    account.stays_at = "BAKE_TIME"
    account.refuse = dict.fromkeys(["get_object", "put_object"], AwsError("S3 is away", "wait", code="503"))

    result = back(config, account)

    assert (result.how, result.serves, moving.status) == ("stopped-deployment", "v2", "ROLLBACK_SUCCESSFUL")
    assert "could not be recorded: S3 is away" in result.ledger_note


def test_what_s3_missed_is_written_down_by_the_next_rollback(config, account):
    """The record of the release that was stopped, and of the rollback itself, each once; it says so."""
    ledger_of(account).open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST)
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, moving.hook = "IN_PROGRESS", 8, NEW, "SUCCEEDED"
    account.stays_at = "BAKE_TIME"
    account.refuse = dict.fromkeys(["get_object", "put_object"], AwsError("S3 is away", "wait", code="503"))
    back(config, account)
    account.refuse, account.stays_at, lines = {}, "nowhere", []

    for _ in range(2):
        account.clock.sleep(60)
        back(config, account, to="v2", on_progress=lines.append)

    records = ledger_of(account).history()
    late = [r for r in records if r.event == "rollback" and r.deployment_arn == moving.arn]
    assert Outcome.ROLLED_BACK is ledger_of(account).record("v3").outcome
    assert [("v2", Outcome.LIVE)] == [(r.serves, r.outcome) for r in late]
    assert 2 == sum("v3 was closed as rolled-back" in line or "recorded late" in line for line in lines)


def test_a_ship_at_its_gate_is_pre_empted_and_its_release_closed(config, account):
    """The deployment is stopped without a new one; the run is named, fenced off, and has its record."""
    ship = acquire(account, LockPlace(account.bucket, "test", "tiny"), holder="ben@ci", command="onnxship ship")
    ledger_of(account).open_draft(
        "v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST, fence=ship.fence
    )
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, moving.hook = "IN_PROGRESS", 5, NEW, "AWAITING_ACTION"

    result = back(config, account)

    record = ledger_of(account).record("v3")
    assert ("stopped-deployment", "ben@ci (`onnxship ship`)") == (result.how, result.preempted)
    assert (Outcome.REFUSED, "ann@laptop stopped it with `onnxship rollback`") == (record.outcome, record.reason)
    with pytest.raises(Locked, match="taken by ann@laptop"):
        ship.confirm()


def test_what_waits_for_the_end_of_a_deployment_is_stopped_after_it(config, account):
    """Somebody's second deployment is PENDING: the one that runs goes first, or the wait would never end."""
    running = account.start(OTHER)
    running.status, running.at, running.source, running.hook = "IN_PROGRESS", 5, NEW, "AWAITING_ACTION"
    account.clock.sleep(1)
    waiting = account.start(OLD)

    result = back(config, account)

    assert [{"serviceDeploymentArn": d.arn, "stopType": "ROLLBACK"} for d in (running, waiting)] == account.sent(
        "stop_service_deployment"
    )
    assert ("stopped-deployment", "v2", "v3") == (result.how, result.serves, result.replaced)
    assert {"ROLLBACK_SUCCESSFUL"} == {running.status, waiting.status}


@pytest.mark.parametrize(("hook", "outcome"), [("FAILED", Outcome.REFUSED), ("SUCCEEDED", None)])
def test_a_killed_run_whose_deployment_was_replaced_at_its_gate_is_closed(config, account, hook, outcome):
    """A newer deployment took its place: refused, unless its gate had let it pass, which a person must judge."""
    ledger_of(account).open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST)
    stopped = account.start(OTHER)
    stopped.status, stopped.at, stopped.source, stopped.hook = "STOPPED", 5, NEW, hook
    account.clock.sleep(1)
    newer = account.start(NEW)
    newer.status, newer.at = "SUCCESSFUL", 9

    back(config, account, to="v2")

    record = ledger_of(account).record("v3")
    assert outcome == (record.outcome if record else None)


def test_a_release_whose_run_was_killed_at_its_gate_is_closed_when_ecs_went_back(config, account):
    """The hook's time-out rolled it back; the next command writes the record, and no rollback that nobody made."""
    ledger_of(account).open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST)
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, moving.hook = "ROLLBACK_SUCCESSFUL", 5, NEW, "TIMED_OUT"
    moving.rolled_back_because = "the hook timed out"

    back(config, account, to="v2")

    record = ledger_of(account).record("v3")
    assert (Outcome.REFUSED, True) == (record.outcome, record.reason.endswith("the hook timed out"))
    assert ["rollback"] == [r.event for r in ledger_of(account).history() if r.event != "ship"]


def test_a_stop_that_fails_needs_a_person(config, account):
    """ROLLBACK_FAILED: exit code 5."""
    moving = account.start(OTHER)
    moving.status, moving.at = "IN_PROGRESS", 8
    account.stays_at, account.rollback_status = "BAKE_TIME", "ROLLBACK_FAILED"

    with pytest.raises(StateUnknown):
        back(config, account)


def test_an_unknown_release_changes_nothing(config, account):
    """The known ones are listed, exit code 2."""
    with pytest.raises(UsageError, match="known live releases: v2, v1"):
        back(config, account, to="v9")

    assert account.sent("update_service") == []


def test_a_missing_image_or_task_definition_is_found_before_anything_changes(config, account):
    """Both are looked at first."""
    account.images.discard(OLD_DIGEST)
    with pytest.raises(UsageError, match="no longer in repository demo-test"):
        back(config, account)

    account.images.add(OLD_DIGEST)
    account.definition_status = "INACTIVE"
    with pytest.raises(UsageError, match="is not ACTIVE"):
        back(config, account)

    assert account.sent("update_service") == []


def test_a_gate_that_refuses_leaves_what_serves_and_is_recorded(config, account):
    """The rollback itself may be refused: exit code 3, and the pointer stays."""
    with pytest.raises(GateRefused):
        back(config, account, verdict=Verdict.FAIL)

    assert ledger_of(account).current().release_id == "v2"
    assert ledger_of(account).history()[0].outcome is Outcome.REFUSED


def test_a_running_ship_is_pre_empted_and_named(config, account):
    """Its lock is taken at once; its next change is refused."""
    place = LockPlace(account.bucket, "test", "tiny")
    ship = acquire(account, place, holder="ben@ci", command="onnxship ship")

    result = back(config, account)

    assert result.preempted == "ben@ci (`onnxship ship`)"
    with pytest.raises(Locked):
        ship.confirm()


def test_back_to_what_already_serves_deploys_nothing(config, account):
    """The pointer is put right, and no deployment is started."""
    result = back(config, account, to="v2")

    assert (result.how, result.serves) == ("already-live", "v2")
    assert account.sent("update_service") == []


def planned(config, account, to=None):
    account.calls.clear()
    plan = plan_rollback(config, account, service="tiny", to=to, gates=("golden",))
    assert {name.split("_")[0] for name, _ in account.calls} <= {"describe", "list", "get"}
    return plan


def test_a_plan_says_from_where_to_where(config, account):
    """Task definition, image and gates of what would be gone back to; nothing but reads is sent."""
    plan = planned(config, account)

    assert ("v2", "v1", "deploy") == (plan.from_release, plan.to_release, plan.how)
    assert (OLD, OLD_DIGEST, True) == (plan.task_definition_arn, plan.image_digest, plan.image_is_there)
    assert ("golden",) == plan.gates


def test_a_plan_counts_from_what_serves_not_from_a_stale_pointer(config, account):
    """The killed run's v3 serves: the plan names v2, as the rollback itself goes there, and writes no record."""
    ledger = ledger_of(account)
    ledger.open_draft("v3", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST)
    moving = account.start(OTHER)
    moving.status, moving.at = "SUCCESSFUL", 9
    account.clock.sleep(60)

    plan = planned(config, account)

    assert ("v3", "v2") == (plan.from_release, plan.to_release)
    assert ledger.record("v3") is None
    assert back(config, account).serves == plan.to_release


def test_a_plan_while_a_release_bakes_is_to_stop_it(config, account):
    """No gate judges what serves already."""
    moving = account.start(OTHER)
    moving.status, moving.at, moving.source, account.stays_at = "IN_PROGRESS", 8, NEW, "BAKE_TIME"

    plan = planned(config, account)

    assert ("v3", "v2", f"stop deployment {moving.arn}") == (plan.from_release, plan.to_release, plan.how)
    assert () == plan.gates


def test_a_plan_that_could_not_be_carried_out_is_refused(config, account):
    """As the rollback itself: an image that is gone, a release that is unknown."""
    account.images = {NEW_DIGEST}

    for to in (None, "v1", "v9"):
        with pytest.raises(UsageError):
            plan_rollback(config, account, service="tiny", to=to)

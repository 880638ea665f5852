"""Abort: the run that is under way is broken off wherever it is, and nothing to break off is no error."""

from dataclasses import dataclass

import pytest

from pipeline.aws.lock import LockPlace, acquire, read_lock
from pipeline.deployment.place import find_place
from pipeline.deployment.stopping import wait_for_clean_up
from pipeline.errors import AwsError, Locked
from pipeline.results import Outcome
from pipeline.stages.abort import abort, plan_abort
from tests.pipeline.ecs_world import NEW_DIGEST, OTHER, Creating
from tests.pipeline.test_rollback import Account, account, config, ledger_of  # noqa: F401

PLACE = ("test", "tiny")
ABSENT = AwsError("absent", "", code="ValidationError", message="Stack does not exist")


def broken_off(config, account, lines=None):  # noqa: F811
    tell = (lines if lines is not None else []).append
    return abort(config, account, account.clock, service="tiny", who="ann", on_progress=tell)


def begin(account, stage_at: int, hook: str = "", **facts):  # noqa: F811
    """v3's run holds the lock; its deployment is at a stage."""
    lease = acquire(account, LockPlace(account.bucket, *PLACE), holder="ben", command="onnxship ship")
    draft = ledger_of(account).open_draft("v3", started_at="", fence=lease.fence, **facts)
    if stage_at >= 0:
        moving = account.start(OTHER)
        moving.status, moving.at, moving.hook = "IN_PROGRESS", stage_at, hook
        account.stays_at = moving.stage
    return lease, draft


RELEASE = {"task_definition_arn": OTHER, "image_digest": NEW_DIGEST}


@pytest.mark.parametrize(
    ("stage_at", "hook", "facts", "outcome"),
    [
        (-1, "", {}, Outcome.ABORTED),
        (-1, "", RELEASE, Outcome.ABORTED),
        (5, "AWAITING_ACTION", RELEASE, Outcome.REFUSED),
        (8, "SUCCEEDED", RELEASE, Outcome.ROLLED_BACK),
    ],
    ids=["building", "registered", "at its gate", "baking"],
)
def test_a_run_is_broken_off_and_its_release_closed(config, account, stage_at, hook, facts, outcome):  # noqa: F811
    """One record that says who; the lock is free, and the run's next change is refused."""
    lease, _ = begin(account, stage_at, hook, **facts)

    result = broken_off(config, account)

    record = ledger_of(account).record("v3")
    assert (outcome, "ben (`onnxship ship`)") == (record.outcome, result.lock_was_held_by)
    assert record.reason.startswith("ann stopped it with `onnxship abort`")
    assert not read_lock(account, LockPlace(account.bucket, *PLACE)).held
    assert [] == ledger_of(account).open_drafts()
    with pytest.raises(Locked, match=r"taken by ann \(`onnxship abort`\)"):
        lease.confirm()


def test_nothing_to_break_off_is_no_error(config, account):  # noqa: F811
    """It says so, twice as well as once."""
    for _ in range(2):
        assert ("", "no deployment ran", "") == _plain(broken_off(config, account))


def test_what_a_run_begins_just_before_it_loses_the_lock_is_stopped_too(config, account):  # noqa: F811
    """Nothing ran at the first look; UpdateService was under way when the fence rose."""
    begin(account, -1, **RELEASE)

    class Late:
        """The other run's UpdateService arrives with our first write of the lock."""

        def __getattr__(self, name):
            return getattr(account, name)

        def call(self, service, operation, /, **request):
            if (
                operation == "put_object"
                and not account.sent("stop_service_deployment")
                and len(account.deployments) == 2
            ):
                moving = account.start(OTHER)
                moving.status, moving.at = "IN_PROGRESS", 2
            return account.call(service, operation, **request)

    result = broken_off(config, Late())

    assert "ROLLBACK_SUCCESSFUL" == result.status
    assert Outcome.REFUSED is ledger_of(account).record("v3").outcome


def test_a_plan_names_the_deployment_and_the_holder_and_changes_nothing(config, account):  # noqa: F811
    """Only reads."""
    begin(account, 5, "AWAITING_ACTION", **RELEASE)
    account.calls.clear()

    plan = plan_abort(config, account, service="tiny")

    assert (account.deployments[-1].arn, "would be stopped", "ben (`onnxship ship`)") == _plain(plan)
    assert {name.split("_")[0] for name, _ in account.calls} <= {"describe", "list", "get"}


@dataclass
class Beginning(Creating, Account):
    """No service yet: its stack may be under way."""

    registry: bool = True

    def _describe_stacks(self, StackName: str):  # noqa: N803
        if StackName.endswith("-registry"):
            if not self.registry:
                raise ABSENT
            return Account._describe_stacks(self, StackName)
        answer = super()._describe_stacks(StackName)
        if StackName.endswith("-service"):
            if self.stack_status == "DELETE_COMPLETE" or not self.exists:
                raise ABSENT
            answer["Stacks"][0]["Outputs"] = []
        return answer

    def _describe_services(self, **request):
        answer = super()._describe_services(**request)
        answer["services"][0]["taskDefinition"] = OTHER
        return answer


@pytest.mark.parametrize("registry", [True, False])
def test_before_the_first_release_there_is_nothing_to_abort(config, aws, bucket, clock, registry):  # noqa: F811
    """No service, perhaps no bucket: exit 0."""
    beginning = Beginning(clock, aws=aws, bucket=bucket, registry=registry)

    assert broken_off(config, beginning).status.startswith("no deployment ran")
    assert plan_abort(config, beginning, service="tiny").status == "no deployment ran"


def test_a_service_that_is_being_created_is_removed(config, aws, bucket, clock):  # noqa: F811
    """Its release is closed first, for its own run to read; then the stack goes."""
    beginning = Beginning(clock, aws=aws, bucket=bucket)
    beginning.exists, beginning.stack_status, beginning.has_hook = True, "CREATE_IN_PROGRESS", True
    begin(beginning, 5, "AWAITING_ACTION", **RELEASE)

    result = broken_off(config, beginning)

    assert "was removed" in result.status
    assert Outcome.REFUSED is ledger_of(beginning).record("v3").outcome
    assert "DELETE_COMPLETE" == beginning.stack_status
    assert not read_lock(beginning, LockPlace(bucket, *PLACE)).held


def test_what_only_takes_old_tasks_away_is_waited_for(config, account):  # noqa: F811
    """There is nothing left in it that could be stopped, and the next release may follow it."""
    begin(account, 8, **RELEASE)
    account.stays_at = "nowhere"
    lines: list[str] = []

    wait_for_clean_up(
        account, account.clock, find_place(config, account, "tiny"), interval_s=1, on_progress=lines.append
    )

    assert [True] == [line.endswith("only takes old tasks away (IN_PROGRESS, CLEAN_UP)") for line in lines]
    assert "SUCCESSFUL" == account.deployments[-1].status


@pytest.mark.parametrize("stage_at", [2, 7, 8], ids=["starts", "shifted", "bakes"])
def test_what_can_still_go_back_is_not_waited_for(config, account, stage_at):  # noqa: F811
    """Its user decides: wait, or `abort`."""
    begin(account, stage_at, **RELEASE)
    lines: list[str] = []

    wait_for_clean_up(
        account, account.clock, find_place(config, account, "tiny"), interval_s=1, on_progress=lines.append
    )

    assert [] == lines
    assert "IN_PROGRESS" == account.deployments[-1].status


def _plain(result) -> tuple[str, str, str]:
    return result.deployment_arn, result.status, result.lock_was_held_by

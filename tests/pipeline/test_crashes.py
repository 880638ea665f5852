"""A run that dies at any of its changes, before or after it is applied: the same command again ends it well.

The rollout half of `ship`, and `rollback`, over the small ECS and an S3 in memory. The ALICE way: every prefix of the
calls, with the last one applied or not. https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from pipeline.aws.lock import TTL_S, LockPlace, read_lock
from pipeline.cli import release as releases
from pipeline.cli.options import Run
from pipeline.results import GateResult, Outcome, RolledOut, TaskDefinition, Verdict
from pipeline.stages.abort import abort
from pipeline.stages.rollback import Who, rollback
from pipeline.stages.rollout import rollout
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, OTHER, World
from tests.pipeline.memory_s3 import MemoryS3
from tests.pipeline.test_rollback import Account, config, ledger_of, shipped_twice  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

CHANGES = ("put_object", "update_service", "continue_service_deployment", "stop_service_deployment",
           "authorize_security_group_ingress", "revoke_security_group_ingress", "register_scalable_target")  # fmt: skip


class Killed(BaseException):
    """SIGKILL: nothing that is written for `except Exception` or even for Ctrl-C may count on running."""


@dataclass
class InMemory(Account):
    """The small ECS beside an S3 in memory."""

    s3: MemoryS3 | None = None

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        if service == "s3":
            return dict(getattr(self.s3, operation)(**request))
        return World.call(self, service, operation, region=region, **request)

    def pages(self, service: str, operation: str, key: str, /, **request: Any) -> Any:
        return iter(self.call(service, operation, **request)[key])


@dataclass
class Mortal:
    """An AWS whose caller dies at change number `at`, before it is sent or after it is applied; no call after that."""

    aws: Account
    at: int = 0
    applied: bool = False
    changes: int = 0
    is_dead: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.aws, name)

    def briefly(self) -> "Mortal":
        return self

    def call(self, service: str, operation: str, /, **request: Any) -> dict[str, Any]:
        if self.is_dead:
            raise Killed
        if operation not in CHANGES:
            return self.aws.call(service, operation, **request)
        self.changes += 1
        if self.changes != self.at:
            return self.aws.call(service, operation, **request)
        self.is_dead = True
        if self.applied:
            self.aws.call(service, operation, **request)
        raise Killed

    def pages(self, service: str, operation: str, key: str, /, **request: Any) -> Any:
        if self.is_dead:
            raise Killed
        return self.aws.pages(service, operation, key, **request)


def passing(_: object) -> GateResult:
    return GateResult("golden", Verdict.PASS, "as it should be")


def ship_v3(config, aws) -> None:  # noqa: F811
    """What `ship --release v3` does from the registered task definition on."""
    run = Run(config, "tiny", "text", clock=aws.clock)
    run.__dict__["aws"] = aws
    ledger = ledger_of(aws)
    with releases.held(run, "onnxship ship", "v3") as lease:
        if (current := ledger.current()) and current.release_id == "v3":
            return  # `ship` says that there is nothing to do
        with releases.begun(run, lease, "v3", committed_at="2026-11-21T00:00:00+00:00") as release:
            release.intend("ecs:RegisterTaskDefinition")
            facts = {"task_definition_arn": OTHER, "image_digest": NEW_DIGEST, "git_sha": "sha-v3"}
            release.draft.note("register", asdict(TaskDefinition(OTHER, "p-e-s", 3)), **facts)
            rolled_out = rollout(
                config, aws, aws.clock, [passing], service="tiny", release_id="v3", task_definition_arn=OTHER,
                image_digest=NEW_DIGEST, intend=release.intend,
            )  # fmt: skip
            assert isinstance(rolled_out, RolledOut)
            lease.confirm()
            ledger.close(release.draft, Outcome.LIVE, "every gate passed", finished_at=aws.clock.now().isoformat())


def go_back(config, aws) -> None:  # noqa: F811
    """`rollback v1`."""
    rollback(config, aws, aws.clock, lambda _: [passing], service="tiny", who=Who("ann"), to="v1")


def stop_the_bake(config, aws) -> None:  # noqa: F811
    """`rollback` while v3 bakes; when that is done already, v2 is what one wanted to go to."""
    if aws.deployments[-1].status != "ROLLBACK_SUCCESSFUL":
        rollback(config, aws, aws.clock, lambda _: [passing], service="tiny", who=Who("ann"))
    else:
        abort(config, aws, aws.clock, service="tiny", who="ann")


def baking(account: Account) -> None:
    """v3 bakes, its run is dead."""
    ledger_of(account).open_draft(
        "v3", started_at=account.clock.now().isoformat(), task_definition_arn=OTHER, image_digest=NEW_DIGEST
    )
    moving = account.start(OTHER)
    moving.status, moving.at, moving.hook, account.stays_at = "IN_PROGRESS", 8, "SUCCEEDED", "BAKE_TIME"


CASES = {
    "ship": (ship_v3, lambda _: None, ("v3", OTHER), {"v3": Outcome.LIVE}),
    "rollback": (go_back, lambda _: None, ("v1", OLD), {}),
    "rollback of a bake": (stop_the_bake, baking, ("v2", NEW), {"v3": Outcome.ROLLED_BACK}),
}


def changes_of(command: Callable[..., None], config, account) -> int:  # noqa: F811
    mortal = Mortal(account)
    command(config, mortal)
    return mortal.changes


@pytest.mark.parametrize("case", CASES)
def test_the_same_command_again_converges(case, config, clock, monkeypatch):  # noqa: F811
    """Exit 0, the wanted release live in ECS and in the ledger, one record each, no draft, no opening, lock free."""
    command, prepare, (live, definition), endings = CASES[case]
    monkeypatch.setattr(releases, "is_deployed", lambda _: True)
    wanted = changes_of(command, config, prepared(clock, prepare))
    states = [(at, applied) for at in range(1, wanted + 1) for applied in (False, True)]

    for at, applied in states:
        world = prepared(clock, prepare)
        mortal = Mortal(world, at, applied)
        with contextlib.suppress(Killed):  # in the lock's own thread nobody catches it
            command(config, mortal)
        assert mortal.is_dead
        clock.sleep(TTL_S + 1)
        command(config, world)
        check(world, live, definition, endings, f"{case}: change {at} of {wanted}, applied: {applied}")

    assert len(states) == 2 * wanted
    assert wanted >= 5


def prepared(clock, prepare) -> Account:
    """v1 was shipped, then v2, which serves."""
    world = InMemory(clock, bucket="bucket", s3=MemoryS3(clock.now))
    shipped_twice(world)
    prepare(world)
    return world


def check(world: Account, live: str, definition: str, endings: dict[str, Outcome], state: str) -> None:
    ledger = ledger_of(world)
    pointer = ledger.current()
    serving = [d.task_definition for d in world.deployments if d.status == "SUCCESSFUL"][-1]
    assert (live, definition, definition) == (pointer.release_id, pointer.task_definition_arn, serving), state
    assert [] == ledger.open_drafts(), state
    assert endings == {name: ledger.record(name).outcome for name in endings}, state
    assert ({}, False) == (world.ingress, world.scale_out_suspended), state
    assert not [d for d in world.deployments if d.status in ("PENDING", "IN_PROGRESS")], state
    assert not read_lock(world, LockPlace(world.bucket, "test", "tiny")).held, state

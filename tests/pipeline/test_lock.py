"""The lock: one writer per service, by conditional writes, with S3's clock."""

import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import sleep

import pytest
from moto.server import ThreadedMotoServer

from pipeline.aws.lock import LockPlace, acquire, free_lock, read_lock
from pipeline.aws.session import Aws, connect_unchecked
from pipeline.errors import AwsError, GateRefused, Locked

PLACE = LockPlace("demo-test-artifacts", "test", "tiny")


@pytest.fixture
def s3(config, monkeypatch) -> Iterator[Aws]:
    """S3 behind real HTTP, so that answers carry its Date."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    aws = connect_unchecked(config)
    yield aws
    server.stop()


@pytest.fixture
def place(s3) -> LockPlace:
    """A lock in a bucket of its own: moto's servers of one process share their state."""
    name = f"artifacts-{uuid.uuid4().hex}"
    s3.call("s3", "create_bucket", Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return LockPlace(name, "test", "tiny")


@dataclass
class Meanwhile:
    """AWS in which something happens between our reading and our writing."""

    aws: Aws
    happens: Callable[[], object] | None

    def call(self, service, operation, /, **request):
        if operation == "put_object" and self.happens:
            happens, self.happens = self.happens, None
            happens()
        return self.aws.call(service, operation, **request)


def test_a_held_lock_says_who_since_when_until_when_and_what_frees_it(aws, bucket):
    """The second run is told all it needs, with exit code 7."""
    acquire(aws, PLACE, holder="ann@ci", run_url="https://ci/run/1", command="onnxship ship")

    with pytest.raises(Locked) as locked:
        acquire(aws, PLACE, holder="ben@laptop")

    state = read_lock(aws, PLACE)
    assert locked.value.exit_code == 7
    for part in ("ann@ci", "https://ci/run/1", state.since, state.expires_at):
        assert part in locked.value.what
    assert "onnxship lock release --env test --service tiny" in locked.value.remedy


def test_a_released_lock_can_be_taken_and_the_fence_rises(aws, bucket):
    """The object is never deleted, so fence numbers are never used twice."""
    first = acquire(aws, PLACE, holder="ann")
    first.release()

    second = acquire(aws, PLACE, holder="ben")

    assert (first.fence, second.fence) == (1, 2)
    assert second.preempted is None


def test_a_lease_that_has_ended_is_taken_over_and_the_old_holder_is_fenced_off(aws, bucket):
    """A paused holder that comes back is refused at its next change, and cannot free the lock of the new one."""
    old = acquire(aws, PLACE, holder="ann", ttl_s=0)
    new = acquire(aws, PLACE, holder="ben")

    with pytest.raises(Locked, match="ben"):
        old.confirm()
    old.release()

    assert read_lock(aws, PLACE).holder == "ben"
    new.confirm()


def test_a_lease_ends_by_s3s_own_clock(s3, place):
    """Held for its second, then free, without anything but S3's Date and LastModified."""
    acquire(s3, place, holder="ann", ttl_s=2)
    held = []

    while not held or held[-1]:
        held.append(read_lock(s3, place).held)
        sleep(0.1)

    assert (held[0], held[-1]) == (True, False)


def test_a_renewed_lease_is_still_the_same_holders(aws, bucket):
    """Confirming keeps the nonce, the fence and the time it began."""
    lease = acquire(aws, PLACE, holder="ann")
    before = read_lock(aws, PLACE)

    lease.confirm()
    lease.confirm()

    after = read_lock(aws, PLACE)
    assert (before.holder, before.fence, before.since) == (after.holder, after.fence, after.since)
    assert after.held


def test_a_rollback_may_pre_empt_a_living_holder(aws, bucket):
    """Whom it was taken from is in the lease, and their next change is refused."""
    ship = acquire(aws, PLACE, holder="ann", command="onnxship ship")

    rollback = acquire(aws, PLACE, holder="ben", preempt=True)

    assert rollback.preempted.description == "ann (`onnxship ship`)"
    with pytest.raises(Locked):
        ship.confirm()


def test_a_person_can_free_a_dead_runs_lock(aws, bucket):
    """`lock release` names whom it was taken from; the dead run cannot come back to it."""
    dead = acquire(aws, PLACE, holder="ann")

    assert free_lock(aws, PLACE).holder == "ann"
    assert not read_lock(aws, PLACE).held
    with pytest.raises(Locked):
        dead.confirm()


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_that_see_the_lock_free_one_gets_it(aws, bucket, is_first):
    """The slower one's write is refused by S3, be it the first lock ever or a free one; it is told who was faster."""
    if not is_first:
        acquire(aws, PLACE, holder="zoe").release()
    racing = Meanwhile(aws, lambda: acquire(aws, PLACE, holder="ann"))

    with pytest.raises(Locked, match="ann"):
        acquire(racing, PLACE, holder="ben")

    assert read_lock(aws, PLACE).holder == "ann"


def test_a_write_whose_answer_was_lost_is_recognised_as_our_own(aws, bucket):
    """S3 took the first try; the second try meets itself and is no refusal."""

    class AnswerLost(Meanwhile):
        def call(self, service, operation, /, **request):
            if operation == "put_object":
                self.aws.call(service, operation, **request)
            return self.aws.call(service, operation, **request)

    lease = acquire(AnswerLost(aws, None), PLACE, holder="ann")

    lease.confirm()
    assert read_lock(aws, PLACE).holder == "ann"


@dataclass
class Offline:
    """AWS whose writes arrive, while `is_away` their answers do not."""

    aws: Aws
    is_away: bool = False

    def call(self, service, operation, /, **request):
        answer = self.aws.call(service, operation, **request)
        if self.is_away and operation == "put_object":
            raise AwsError("s3:put_object failed: Read timeout", "try again")
        return answer


def test_a_beat_whose_answer_never_came_does_not_cost_the_lease(aws, bucket):
    """S3 took the renewal and the network lost the answer: the next one finds our own nonce and goes on from there."""
    network = Offline(aws)
    lease = acquire(network, PLACE, holder="ann")
    network.is_away = True
    with pytest.raises(AwsError):
        lease.confirm()
    network.is_away = False

    lease.confirm()
    lease.confirm()

    assert (read_lock(aws, PLACE).holder, read_lock(aws, PLACE).fence) == ("ann", lease.fence)


def test_a_lock_that_cannot_be_freed_hides_no_other_error(aws, bucket):
    """S3 is away at the end: the run ends as it would have, and the lease ends by itself."""
    network = Offline(aws)

    def ship() -> None:
        with acquire(network, PLACE, holder="ann").kept_alive():
            network.is_away = True
            raise GateRefused("too slow", "make it faster")

    with pytest.raises(GateRefused, match="too slow"):
        ship()


@dataclass
class AtFreeing:
    """AWS in which something happens just before the lock is freed."""

    aws: Aws
    happens: Callable[[], object]

    def call(self, service, operation, /, **request):
        if operation == "put_object" and not json.loads(request["Body"])["nonce"]:
            self.happens()
        return self.aws.call(service, operation, **request)


def test_ctrl_c_while_the_lock_is_freed_frees_it_all_the_same(aws, bucket):
    """The first Ctrl-C comes when the run is over: it ends the run, not the release of its lock."""
    interrupted = AtFreeing(aws, lambda: os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(KeyboardInterrupt), acquire(interrupted, PLACE, holder="ann").kept_alive():
        pass

    for thread in threading.enumerate():
        if thread.name == "lock":
            thread.join()
    assert not read_lock(aws, PLACE).held


def test_a_holder_that_renews_meanwhile_is_pre_empted_all_the_same(aws, bucket):
    """Its renewals fall between our look and our write, again and again."""
    ship = acquire(aws, PLACE, holder="ann")
    beats = iter(range(3))
    racing = Repeatedly(aws, lambda: next(beats, None) is not None and ship.confirm())

    taken = acquire(racing, PLACE, holder="ben", preempt=True)

    assert ("ann", "ben") == (taken.preempted.holder, read_lock(aws, PLACE).holder)
    with pytest.raises(Locked, match="taken by ben"):
        ship.confirm()


@dataclass
class Repeatedly:
    """AWS in which something happens before each of our writes."""

    aws: Aws
    happens: Callable[[], object]

    def call(self, service, operation, /, **request):
        if operation == "put_object":
            self.happens()
        return self.aws.call(service, operation, **request)


def test_a_lease_is_kept_alive_and_then_freed(s3, place):
    """While the block runs the lease is renewed in the background; after it the lock is free."""
    with acquire(s3, place, holder="ann", ttl_s=120).kept_alive(interval_s=0.05) as lease:
        first = lease.etag
        while lease.etag == first:
            sleep(0.05)
        assert read_lock(s3, place).held

    assert not read_lock(s3, place).held

"""The ledger: drafts before changes, one record for every outcome, a pointer that ECS can correct."""

from datetime import UTC, datetime

import pytest

from pipeline.aws.draft import Draft
from pipeline.aws.ledger import Ledger, check_release_id, release_id_for
from pipeline.aws.outcomes import outcome_of
from pipeline.errors import AwsError, GateRefused, Locked, RolledBack, StateUnknown, UsageError
from pipeline.results import Outcome

TIMES = [f"2026-11-21T00:0{n}:00+00:00" for n in range(10)]


@pytest.fixture
def ledger(aws, bucket) -> Ledger:
    return Ledger(aws, bucket, "test", "tiny")


def draft_of(ledger: Ledger, release_id: str, at: int = 0, **facts) -> Draft:
    facts = {"task_definition_arn": f"td/{release_id}", "image_digest": f"sha256:{release_id}", **facts}
    return ledger.open_draft(release_id, started_at=TIMES[at], **facts)


def ship(ledger: Ledger, release_id: str, at: int, outcome: Outcome = Outcome.LIVE, **facts):
    return ledger.close(draft_of(ledger, release_id, at, **facts), outcome, "as planned", finished_at=TIMES[at])


def test_the_default_release_id_is_time_and_commit():
    """UTC time first, so that ids sort as they happened."""
    assert release_id_for(datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC), "0123456789abcdef") == "20261121-050607-0123456"


@pytest.mark.parametrize("bad", ["", "a/b", "x" * 65, "é", "..", "a b", "-x", ".x"])
def test_a_release_id_that_s3_or_tags_cannot_carry_is_refused(bad):
    """Also `..`, which would be a path, and a leading dash, which `rollback` would read as an option."""
    with pytest.raises(UsageError):
        check_release_id(bad)


def test_a_live_release_has_a_record_and_moves_the_pointer(ledger):
    """What the draft knew is in the record, and the pointer names it."""
    draft = draft_of(ledger, "v1", git_sha="abc")
    draft.note("build", {"image_digest": "sha256:v1"})
    ledger.close(draft, Outcome.LIVE, "passed", finished_at=TIMES[1], deployment_arn="dep/1")

    record, pointer = ledger.record("v1"), ledger.current()
    assert (record.outcome, record.reason, record.git_sha, record.deployment_arn) == (
        Outcome.LIVE, "passed", "abc", "dep/1",
    )  # fmt: skip
    assert record.results == {"build": {"image_digest": "sha256:v1"}}
    assert (pointer.release_id, pointer.event_id, pointer.task_definition_arn) == ("v1", "v1", "td/v1")


def test_a_refused_release_has_a_record_and_leaves_the_pointer(ledger):
    """Every outcome is written down; only a live one is pointed at."""
    ship(ledger, "v1", 0)
    ship(ledger, "v2", 1, Outcome.REFUSED)

    assert ledger.record("v2").outcome is Outcome.REFUSED
    assert ledger.current().release_id == "v1"
    assert [record.release_id for record in ledger.history()] == ["v2", "v1"]


def test_a_record_is_written_once(ledger):
    """The same ending again is no error (a lost answer); another ending is exit code 5; a new run is refused."""
    draft = draft_of(ledger, "v1")
    ledger.close(draft, Outcome.REFUSED, "gate", finished_at=TIMES[1])
    ledger.close(draft, Outcome.REFUSED, "gate", finished_at=TIMES[1])

    with pytest.raises(StateUnknown):
        ledger.close(draft, Outcome.LIVE, "no, live", finished_at=TIMES[2])
    with pytest.raises(UsageError, match="ended already: refused"):
        draft_of(ledger, "v1")
    assert ledger.record("v1").outcome is Outcome.REFUSED


def test_an_interrupted_run_continues_from_its_draft(ledger):
    """Intents and results of the run before are there; the old run can no longer write."""
    old = draft_of(ledger, "v1")
    old.note("build", {"tag": "t"})
    old.intend("ecs:UpdateService")

    new = draft_of(ledger, "v1")
    new.intend("ecs:ContinueServiceDeployment")

    assert new.content["results"] == {"build": {"tag": "t"}}
    assert new.content["intents"] == ["ecs:UpdateService", "ecs:ContinueServiceDeployment"]
    with pytest.raises(Locked):
        old.intend("too late")


def test_the_previous_release_is_the_one_before_the_present_was_shipped(ledger):
    """After v1, v2 and a refused v3 it is v1; after going back to v1 it is what came before v1, not v2 again."""
    ship(ledger, "v0", 0)
    ship(ledger, "v1", 1)
    ship(ledger, "v2", 2)
    ship(ledger, "v3", 3, Outcome.REFUSED)
    assert ledger.previous().release_id == "v1"

    ship(ledger, "back", 4, event="rollback", serves="v1", task_definition_arn="td/v1")

    assert ledger.current().release_id == "v1"
    assert ledger.previous().release_id == "v0"


def test_there_is_nothing_before_the_first_release(ledger):
    """Exit code 2 with what to do instead."""
    ship(ledger, "v1", 0)

    with pytest.raises(UsageError, match="no earlier release"):
        ledger.previous()


def test_an_unknown_release_lists_the_known_ones(ledger):
    """Refused releases are not offered: they were never live."""
    ship(ledger, "v1", 0)
    ship(ledger, "v2", 1, Outcome.REFUSED)

    with pytest.raises(UsageError, match="`v9` is not known; known live releases: v1"):
        ledger.known("v9")
    with pytest.raises(UsageError, match="never live"):
        ledger.known("v2")


def test_an_older_commit_is_refused_over_a_newer_release(ledger):
    """Compared as times, whatever their zones."""
    ship(ledger, "v1", 0, committed_at="2026-11-21T10:00:00+00:00")

    with pytest.raises(Locked, match="newer"):
        ledger.refuse_older("abc", "2026-11-21T10:30:00+01:00")
    ledger.refuse_older("abc", "2026-11-21T10:00:00+00:00")
    ledger.refuse_older("abc", "2026-11-21T12:00:01+02:00")


def test_a_record_without_its_pointer_is_finished(ledger):
    """The run died between its last two writes: ECS runs v2, so the pointer moves to v2."""
    ship(ledger, "v1", 0)
    ship(ledger, "v2", 1)
    key = f"{ledger.prefix}current.json"
    pointer = ledger.aws.call("s3", "get_object", Bucket=ledger.bucket, Key=key)["Body"].read()
    ledger.aws.call("s3", "put_object", Bucket=ledger.bucket, Key=key, Body=pointer.replace(b"v2", b"v1"))

    said = ledger.reconcile("td/v2", now=TIMES[3])

    assert "v2" in said
    assert ledger.current().release_id == "v2"


def test_a_draft_that_ecs_runs_is_finished(ledger):
    """The run died before its record: it is written now, as live, and pointed at."""
    ship(ledger, "v1", 0)
    draft_of(ledger, "v2", 1)

    said = ledger.reconcile("td/v2", now=TIMES[3])

    assert "v2" in said
    assert (ledger.record("v2").outcome, ledger.record("v2").previous_release_id) == (Outcome.LIVE, "v1")
    assert ledger.current().release_id == "v2"
    assert ledger.reconcile("td/v2", now=TIMES[4]) == ""


def test_the_run_that_continues_a_draft_finishes_it_itself(ledger):
    """`--release v2` again: nothing is written for it here."""
    draft_of(ledger, "v2")

    assert ledger.reconcile("td/v2", now=TIMES[3], resuming="v2") == "release v2 is continued"
    assert ledger.record("v2") is None


def test_what_no_record_explains_needs_a_person(ledger):
    """ECS runs something that nobody here shipped: exit code 5 that names both."""
    ship(ledger, "v1", 0)

    with pytest.raises(StateUnknown) as unknown:
        ledger.reconcile("td/by-hand", now=TIMES[3])

    assert "td/by-hand" in unknown.value.what
    assert "td/v1" in unknown.value.what


def test_a_document_of_a_newer_version_can_be_read(ledger):
    """Keys that this version does not know are left out, not refused."""
    ship(ledger, "v1", 0)
    for name in ("v1/record.json", "current.json"):
        key = ledger.prefix + name
        body = ledger.aws.call("s3", "get_object", Bucket=ledger.bucket, Key=key)["Body"].read()
        newer = body.replace(b"{", b'{"added_later": 1, ', 1)
        ledger.aws.call("s3", "put_object", Bucket=ledger.bucket, Key=key, Body=newer)

    assert (ledger.record("v1").release_id, ledger.current().release_id) == ("v1", "v1")


def test_which_endings_close_a_release():
    """3, 4 and 5 do; a run that AWS refused, or that lost its lock, may be taken up again."""
    assert [outcome_of(kind("", "")) for kind in (GateRefused, RolledBack, StateUnknown, AwsError, Locked)] == [
        Outcome.REFUSED, Outcome.ROLLED_BACK, Outcome.UNKNOWN, None, None,
    ]  # fmt: skip

"""A release whose run was interrupted, killed or stopped by another: what its draft says, and what may go on."""

import onnx
import pytest

from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import LockPlace, acquire
from pipeline.cli.interruption import Terminated
from pipeline.cli.options import Run
from pipeline.cli.release import ANOTHER_WRITES_WITHIN_S, begun
from pipeline.cli.sameness import refuse_another
from pipeline.errors import GateRefused, Locked, RolledBack, UsageError
from pipeline.results import Outcome
from tests.pipeline.conftest import WEIGHTS, tiny_onnx

PLACE = ("test", "tiny")
BUILT = {"tag": "0123-cpu-abc", "image_digest": "sha256:a"}


@pytest.fixture
def run(config, aws, registry_stack, clock) -> Run:
    """A command in an environment that was bootstrapped."""
    made = Run(config, "tiny", "text", clock=clock)
    made.__dict__["aws"] = aws
    return made


@pytest.fixture
def lease(aws, bucket):
    return acquire(aws, LockPlace(bucket, *PLACE), holder="ann", command="onnxship ship")


@pytest.fixture
def ledger(aws, bucket) -> Ledger:
    return Ledger(aws, bucket, *PLACE)


def break_off(run, lease, error: BaseException, before=lambda: None) -> None:
    """The run of v2 that intends to build, and then ends with `error`."""
    with begun(run, lease, "v2") as release:
        release.intend("build")
        before()
        raise error


def test_a_release_that_was_registered_takes_no_other_model(run, lease, ledger, project):
    """Killed in its bake, then retrained: exit 2 with the way on, and the draft still says what ECS runs."""
    with begun(run, lease, "v2") as release:
        first = release.publish()
        release.draft.note("register", {}, task_definition_arn="td/1")
    onnx.save(tiny_onnx(weights=WEIGHTS * 2), project / "model.onnx")

    with pytest.raises(UsageError, match="`v2` was begun with model") as refused, begun(run, lease, "v2") as again:
        again.publish()

    assert first.manifest_sha256 in refused.value.what
    assert "leave `--release` out" in refused.value.remedy
    assert first.manifest_sha256 == ledger.draft("v2").content["results"]["publish"]["manifest_sha256"]


def test_the_same_files_go_on(run, lease):
    """What was recorded is what would be shipped."""
    with begun(run, lease, "v2") as release:
        release.publish()
        release.draft.note("register", {}, task_definition_arn="td/1")

    with begun(run, lease, "v2") as again:
        assert again.publish().reused


def test_before_anything_is_registered_a_release_may_be_corrected(run, lease, project):
    """Nothing can run under its name yet: a refused requirement, a typo in service.py."""
    with begun(run, lease, "v2") as release:
        first = release.publish()
    onnx.save(tiny_onnx(weights=WEIGHTS * 2), project / "model.onnx")

    with begun(run, lease, "v2") as again:
        assert first.manifest_sha256 != again.publish().manifest_sha256


@pytest.mark.parametrize("found", ["sha256:b", ""])
def test_a_release_that_was_registered_takes_no_other_image(ledger, found):
    """Both digests are named; one that a dry run does not find in AWS is another one, too."""
    draft = ledger.open_draft("v2", started_at="t0")
    draft.note("build", BUILT)
    refuse_another(draft, "image", found)
    draft.note("register", {}, task_definition_arn="td/1")

    refuse_another(draft, "image", "sha256:a")
    with pytest.raises(
        UsageError, match=r"begun with image sha256:a, .* is another: (sha256:b|one that is not in AWS)"
    ):
        refuse_another(draft, "image", found)


@pytest.mark.parametrize(
    ("error", "by"),
    [
        (KeyboardInterrupt(), "Ctrl-C"),
        (Terminated("SIGTERM"), "SIGTERM"),
        (BrokenPipeError(32, "Broken pipe"), "the end of the program that read its output"),
    ],
)
def test_an_interrupted_run_says_in_its_draft_what_stopped_it(run, lease, ledger, error, by):
    """Until another run takes the release up."""
    with pytest.raises(type(error)):
        break_off(run, lease, error)

    assert by == ledger.draft("v2").interruption
    ledger.draft("v2").intend("build")
    assert "" == ledger.draft("v2").interruption


def test_an_interruption_goes_on_its_way_where_nothing_can_be_written(run, lease, ledger):
    """Another run writes the draft by now: the interruption is not hidden by that."""

    def lose() -> None:
        ledger.draft("v2").intend("by another run")

    with pytest.raises(KeyboardInterrupt):
        break_off(run, lease, KeyboardInterrupt(), lose)

    assert "" == ledger.draft("v2").interruption


@pytest.mark.parametrize(
    ("facts", "built", "option"),
    [
        ({}, None, ""),
        ({"allow_dirty": True}, None, "--allow-dirty "),
        ({"allow_dirty": True}, BUILT, ""),
        ({"allow_dirty": True}, {**BUILT, "tag": "0123-cpu-abc-dirty"}, "--allow-dirty "),
    ],
)
def test_the_command_that_goes_on_has_the_options_it_needs(ledger, facts, built, option):
    """`--allow-dirty` where the files were not committed; before the build only the option itself can tell."""
    draft = ledger.open_draft("v2", started_at="t0", **facts)
    if built:
        draft.note("build", built)

    assert f"onnxship ship --release v2 {option}--env test --service tiny" == draft.resume_command


def stopped(kind: type = GateRefused):
    """What a run ends with whose deployment ECS took back without it."""
    error = kind("a rollback was requested", "look who", details=("golden: pass - as it should be",))
    error.is_elsewhere = True
    return error


@pytest.mark.parametrize("before", [True, False], ids=["recorded already", "recorded a moment later"])
@pytest.mark.parametrize(("kind", "outcome"), [(GateRefused, Outcome.REFUSED), (RolledBack, Outcome.ROLLED_BACK)])
def test_a_run_that_was_stopped_by_another_says_by_whom(run, lease, ledger, clock, before, kind, outcome):
    """The other one writes the record, before or after this one sees the end of its deployment."""

    def close() -> None:
        if ledger.record("v2") is None:
            ledger.close(ledger.draft("v2"), outcome, "ben stopped it with `onnxship rollback`", finished_at="t1")

    clock.sleep = lambda _: close()
    with pytest.raises(kind) as ended:
        break_off(run, lease, stopped(kind), close if before else lambda: None)

    assert ended.value.what == f"Release `v2` ended as {outcome}: ben stopped it with `onnxship rollback`."
    assert "correct it" not in ended.value.remedy
    assert ended.value.details == ()  # the gate's evidence is of what was being taken away from it


def test_a_run_that_was_stopped_by_nobody_of_ours_ends_with_ecs_own_words(run, lease, ledger, clock):
    """Somebody used the console: after a short wait this run writes the record itself."""
    with pytest.raises(GateRefused, match="a rollback was requested"):
        break_off(run, lease, stopped())

    assert ANOTHER_WRITES_WITHIN_S <= clock.slept_s
    assert (Outcome.REFUSED, "a rollback was requested") == (ledger.record("v2").outcome, ledger.record("v2").reason)


def test_what_this_run_held_against_its_release_stays_its_word(run, lease, ledger):
    """Its own gate had refused, while another run closed the release."""

    def close() -> None:
        ledger.close(ledger.draft("v2"), Outcome.REFUSED, "ben stopped it", finished_at="t1")

    with pytest.raises(GateRefused, match="gate `golden` refused"):
        break_off(run, lease, GateRefused("gate `golden` refused", "correct it"), close)


def test_a_run_whose_lock_was_taken_before_it_deployed_anything_says_by_whom(run, lease, ledger):
    """Exit 7."""

    def close() -> None:
        ledger.close(ledger.draft("v2"), Outcome.ABORTED, "ben stopped it", finished_at="t1")

    with pytest.raises(Locked, match="ended as aborted: ben stopped it"):
        break_off(run, lease, Locked("taken", "wait"), close)

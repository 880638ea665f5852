"""Fetching from S3 over connections that break, from a store that changes or lies."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from model_service.errors import StartRefused
from model_service.store import fetch
from tests.model_service.store.conftest import (
    CONTENT,
    KIB,
    QUICK,
    Asked,
    FakeS3,
    Fault,
    Handler,
    end_after,
    etag,
    refuse,
    reset_after,
    stall_after,
)

PARTS = [(start, start + 64 * KIB) for start in range(0, 256 * KIB, 64 * KIB)]


def test_fetches_in_parts(s3: FakeS3, models: Path) -> None:
    """Each part is asked for once, at the pinned version and, after the first answer, under its ETag."""
    stored = fetch(s3.publish(), QUICK)

    assert CONTENT == stored.model_path.read_bytes()
    assert PARTS == s3.ranges()
    assert {"v7"} == {asked.version_id for asked in s3.asked}
    assert [None, *[etag(CONTENT)] * 3] == [asked.if_match for asked in s3.asked]


@pytest.mark.parametrize("connections", [1, 3, 8])
def test_the_number_of_connections_does_not_matter(s3: FakeS3, models: Path, connections: int) -> None:
    """One connection or more than there are parts: the same bytes, with the right digest."""
    stored = fetch(s3.publish(), replace(QUICK, connections=connections))

    assert CONTENT == stored.model_path.read_bytes()


@pytest.mark.parametrize("fault", [reset_after(12 * KIB), stall_after(12 * KIB), end_after(12 * KIB)])
@pytest.mark.parametrize("start", [0, 128 * KIB])
def test_resumes_where_it_broke(
    s3: FakeS3, models: Path, caplog: pytest.LogCaptureFixture, fault: Fault, start: int
) -> None:
    """After a reset, a stalled read or an answer that is cut short, only the missing bytes are asked for, and it is
    logged."""
    s3.faults = {start: [fault]}

    stored = fetch(s3.publish(), QUICK)

    assert CONTENT == stored.model_path.read_bytes()
    assert sorted([*PARTS, (start + 12 * KIB, start + 64 * KIB)]) == s3.ranges()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    expected = f"attempt 1 of 3 to read model.onnx failed at byte {start + 12 * KIB}"
    assert [expected] == [line.partition(":")[0] for line in warnings]


def test_waits_for_a_store_that_is_overloaded(s3: FakeS3, models: Path) -> None:
    """SlowDown is no refusal: the request is made again."""
    s3.faults = {0: [refuse(503, "SlowDown"), refuse(503, "SlowDown")]}

    assert CONTENT == fetch(s3.publish(), QUICK).model_path.read_bytes()


def test_gives_up_after_attempts_in_a_row(s3: FakeS3, models: Path) -> None:
    """A part that breaks at the same byte every time is refused with its cause, and nothing is left behind."""
    s3.faults = {0: [reset_after(0)] * 9}

    with pytest.raises(StartRefused, match=r"s3://bucket/model\.onnx \(version v7\).* \(gave up after 3 attempts\)"):
        fetch(s3.publish(), QUICK)

    assert 3 == [asked.start for asked in s3.asked].count(0)
    assert [] == list(models.iterdir())


def test_a_trickle_is_no_progress(s3: FakeS3, models: Path) -> None:
    """Answers that all end after a few bytes are refused, although each brings some."""
    s3.faults = {start: [end_after(10)] for start in range(0, 100, 10)}

    with pytest.raises(StartRefused, match="gave up after 3 attempts"):
        fetch(s3.publish(), QUICK)


def test_does_not_repeat_what_is_forbidden(s3: FakeS3, models: Path) -> None:
    """A request that S3 refuses for good is made once, and the refusal has S3's words."""
    s3.faults = {0: [refuse(403, "AccessDenied")]}

    with pytest.raises(StartRefused, match=r"AccessDenied.*in the store's words"):
        fetch(s3.publish(), replace(QUICK, connections=1))

    assert 1 == len(s3.asked)


def another_etag(handler: Handler, content: bytes, asked: Asked) -> None:
    handler.answer(content, asked, tag='"another"')


@pytest.mark.parametrize("fault", [another_etag, refuse(412, "PreconditionFailed")])
def test_refuses_an_object_that_changes(s3: FakeS3, models: Path, fault: Fault) -> None:
    """A part of an object with another ETag is refused, whether the store checks If-Match or not."""
    s3.faults = {128 * KIB: [fault]}

    with pytest.raises(
        StartRefused, match=r"s3://bucket/model\.onnx \(version v7\) changed while it was read: its ETag"
    ):
        fetch(s3.publish(), QUICK)

    assert [] == list(models.iterdir())


def test_refuses_a_changed_object_after_a_break(s3: FakeS3, models: Path) -> None:
    """An object that was replaced while a connection was down is not patched together from both."""

    def break_and_change(handler: Handler, content: bytes, asked: Asked) -> None:
        end_after(4 * KIB)(handler, content, asked)
        s3.objects["model.onnx"] = bytes(len(content))

    s3.faults = {192 * KIB: [break_and_change]}

    with pytest.raises(StartRefused, match="changed while it was read"):
        fetch(s3.publish(), replace(QUICK, connections=1))


def test_refuses_a_whole_object_for_a_range(s3: FakeS3, models: Path) -> None:
    """A store that does not know ranges is named, rather than its bytes put in the wrong place."""
    s3.faults = {64 * KIB: [lambda handler, content, asked: handler.answer(content, asked, status=200)]}

    with pytest.raises(StartRefused, match="asked for a range, the store answers without one"):
        fetch(s3.publish(), QUICK)


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(len(CONTENT) + 1, f"{len(CONTENT)} instead of"), (len(CONTENT) - 1, "more than")]
)
def test_refuses_an_object_of_another_size(s3: FakeS3, models: Path, size_bytes: int, words: str) -> None:
    """The size is known with the first answer, and refused before the rest is fetched."""
    with pytest.raises(StartRefused, match=rf"model\.onnx has the wrong size: {words} {size_bytes} bytes"):
        fetch(s3.publish(size_bytes=size_bytes), replace(QUICK, connections=1))

    assert 1 == len(s3.asked)


def test_refuses_a_flipped_bit(s3: FakeS3, models: Path) -> None:
    """Bytes that are not those the manifest is of never get the model's name."""
    settings = s3.publish()
    s3.objects["model.onnx"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])

    with pytest.raises(StartRefused, match=r"model\.onnx has the wrong digest"):
        fetch(settings, QUICK)

    assert [] == list(models.iterdir())


def test_tells_its_progress(s3: FakeS3, models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many bytes are there, in percent and in MB/s, and at the end how long it took."""
    caplog.set_level(logging.INFO, "model_service.store")

    fetch(s3.publish(), replace(QUICK, connections=1, progress_every_s=0))

    lines = [record.getMessage() for record in caplog.records if record.name == "model_service.store.progress"]
    assert all(line.startswith("fetching model.onnx: ") for line in lines[:-1])
    assert f"of {256 * KIB} bytes (" in lines[0]
    assert lines[0].endswith(" MB/s")
    assert lines[-1].startswith(f"fetched model.onnx: {256 * KIB} bytes in ")


def test_parts_are_small_enough_for_every_connection() -> None:
    """A file of medium size is shared out among the connections; a large one comes in parts of 64 MiB."""
    transfer = replace(QUICK, connections=4, part_bytes=64, min_part_bytes=8)

    assert [8, 25, 64, 64] == [transfer.part_size(size) for size in (10, 100, 256, 10_000)]

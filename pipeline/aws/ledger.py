"""Releases are records in S3: a draft while a run is at it, one record for every outcome, a pointer to what is live.

`draft.json` says what a run is about to do, before it does it; `record.json` is written once, however the run ended;
`current.json` moves by compare-and-swap. Where the pointer and ECS disagree, ECS is right: `reconcile` finishes the
write that was interrupted, or says that a person must look.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from pipeline.aws.documents import Lost, create_document, list_keys, read_document, replace_document
from pipeline.aws.draft import Draft
from pipeline.aws.session import Aws
from pipeline.errors import Locked, StateUnknown, UsageError
from pipeline.results import Outcome, Pointer, Record

RELEASE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")  # a leading dash would read as an option
FORMAT = "onnxship.release/1"


def release_id_for(now: datetime, git_sha: str) -> str:
    """The id of a release that was given none: `<UTC yyyymmdd-HHMMSS>-<first 7 of the commit>`."""
    return f"{now:%Y%m%d-%H%M%S}-{git_sha[:7]}"


def check_release_id(release_id: str) -> str:
    """The id itself. Raises UsageError when S3 keys or tags could not carry it."""
    if not RELEASE_ID.fullmatch(release_id):
        raise UsageError(
            f"`{release_id}` is no release id: 1 to 64 letters, digits, dots, dashes and underscores, "
            "the first of them a letter or digit.",
            "choose another with `--release ID`, or leave it out",
        )
    return release_id


@dataclass(frozen=True)
class Ledger:
    """The releases of one service in one environment."""

    aws: Aws
    bucket: str
    environment: str
    service: str

    @property
    def prefix(self) -> str:
        return f"releases/{self.environment}/{self.service}/"

    @property
    def options(self) -> str:
        """What a command on the same service takes."""
        return f"--env {self.environment} --service {self.service}"

    def key(self, release_id: str, name: str) -> str:
        return f"{self.prefix}{release_id}/{name}"

    def open_draft(self, release_id: str, *, started_at: str, event: str = "ship", **facts: Any) -> Draft:
        """The draft of `release_id`: a new one, or the one that an interrupted run left.

        Raises UsageError when that release has ended already: a record is written once.
        """
        self.refuse_ended(release_id)
        content = {
            "format": FORMAT, "release_id": release_id, "environment": self.environment, "service": self.service,
            "event": event, "started_at": started_at, "intents": [], "results": {}, **facts,
        }  # fmt: skip
        try:
            etag = create_document(self.aws, self.bucket, self.key(release_id, "draft.json"), content)
            return Draft(self, content, etag)
        except Lost:
            return self._existing(release_id)

    def draft(self, release_id: str) -> Draft | None:
        """What a run has begun under this name, whether or not it has ended; None when none has."""
        document = read_document(self.aws, self.bucket, self.key(check_release_id(release_id), "draft.json"))
        return Draft(self, document.content, document.etag) if document else None

    def refuse_ended(self, release_id: str) -> None:
        """Raises UsageError when that release has ended already: a record is written once."""
        if (ended := self.record(check_release_id(release_id))) is not None:
            raise UsageError(
                f"Release `{release_id}` has ended already: {ended.outcome} at {ended.finished_at}.",
                "leave `--release` out for a new id; `onnxship history` lists the known ones",
            )

    def close(self, draft: Draft, outcome: Outcome, reason: str, *, finished_at: str, **facts: Any) -> Record:
        """Write the record of a run that has ended, however it ended; a live one also moves the pointer.

        Gives the record that stands: where another run was faster to say that the release does not serve, its own.
        """
        current = self.current()
        record = self._write_record(_record_from(
            {**draft.content, "previous_release_id": current.release_id if current else "", **facts},
            outcome, reason, finished_at,
        ))  # fmt: skip
        if outcome is Outcome.LIVE:
            self._move_pointer(record)
        return record

    def add_event(
        self, event_id: str, reason: str, *, serves: Pointer, at: str, deployment_arn: str, who: str = "",
        run_url: str = "",
    ) -> Record:  # fmt: skip
        """Write down a rollback that is over: production is on what the pointer names, which stays where it is."""
        content = {
            **asdict(serves), "release_id": event_id, "environment": self.environment, "service": self.service,
            "event": "rollback", "started_at": at, "serves": serves.release_id, "deployment_arn": deployment_arn,
            "who": who, "run_url": run_url,
        }  # fmt: skip
        return self._write_record(_record_from(content, Outcome.LIVE, reason, at))

    def record(self, release_id: str) -> Record | None:
        """The record of a release that has ended, or None."""
        document = read_document(self.aws, self.bucket, self.key(release_id, "record.json"))
        return _record(document.content) if document else None

    def current(self) -> Pointer | None:
        """What the ledger says is live, or None before the first release."""
        document = read_document(self.aws, self.bucket, f"{self.prefix}current.json")
        return Pointer(**_known_fields(Pointer, document.content)) if document else None

    def history(self, limit: int = 20) -> tuple[Record, ...]:
        """The latest records, newest first."""
        written = [
            entry for entry in list_keys(self.aws, self.bucket, self.prefix) if entry[0].endswith("/record.json")
        ]
        newest = sorted(written, key=lambda entry: (entry[1], entry[0]), reverse=True)[:limit]
        documents = [read_document(self.aws, self.bucket, key) for key, _ in newest]
        records = [_record(document.content) for document in documents if document]
        return tuple(sorted(records, key=lambda record: (record.finished_at, record.release_id), reverse=True))

    def known(self, release_id: str) -> Record:
        """The record of a release that can be gone back to. Raises UsageError that lists those."""
        record = self.record(check_release_id(release_id))
        if record is not None and record.task_definition_arn and record.outcome is Outcome.LIVE:
            return record
        live = [r.release_id for r in self.history() if r.outcome is Outcome.LIVE and r.event == "ship"]
        why = f"ended `{record.outcome}` and was never live" if record else "is not known"
        raise UsageError(
            f"Release `{release_id}` {why}; known live releases: {', '.join(live) or 'none'}.",
            f"choose one of them: `onnxship rollback {live[0] if live else 'RELEASE'}`",
        )

    def previous(self) -> Record:
        """The release that was live before the present one was shipped. Raises UsageError when there is none."""
        current = self.current()
        shipped = self.record(current.release_id) if current else None
        if shipped is None or not shipped.previous_release_id:
            raise UsageError(
                f"There is no earlier release of `{self.service}` in `{self.environment}` to go back to.",
                "ship a corrected one with `onnxship ship`, or name one: `onnxship history` lists them",
            )
        return self.known(shipped.previous_release_id)

    def previous_to(self, live_task_definition_arn: str) -> Record:
        """What `previous` will be once `reconcile` has made the pointer agree with what ECS runs. Reads only."""
        current = self.current()
        if current is None or current.task_definition_arn == live_task_definition_arn:
            return self.previous()
        for record in self.history():
            if record.task_definition_arn == live_task_definition_arn and record.outcome is Outcome.LIVE:
                shipped = self.record(record.serves or record.release_id) or record
                return self.known(shipped.previous_release_id)
        if any(draft.content.get("task_definition_arn") == live_task_definition_arn for draft in self.open_drafts()):
            return self.known(current.release_id)
        raise self._unexplained(live_task_definition_arn, current)

    def refuse_older(self, git_sha: str, committed_at: str) -> None:
        """Raises Locked when the live release was built from a newer commit than this (times in ISO 8601)."""
        current = self.current()
        if not current or not current.committed_at or not committed_at:
            return
        if datetime.fromisoformat(committed_at) < datetime.fromisoformat(current.committed_at):
            raise Locked(
                f"Release `{current.release_id}` is live and its commit {current.git_sha[:7]} ({current.committed_at}) "
                f"is newer than this one, {git_sha[:7]} ({committed_at}).",
                "ship the newer commit, or go back on purpose: `onnxship rollback RELEASE`",
            )

    def reconcile(self, live_task_definition_arn: str, *, now: str, resuming: str = "") -> str:
        """Make the pointer agree with what ECS runs; says what was finished, or "" when nothing was open.

        Call it under the lock. Records that lack their pointer and drafts of dead runs are finished; `resuming` is
        the release this run continues itself. Raises StateUnknown when no record or draft explains what runs.
        """
        current = self.current()
        if (current.task_definition_arn if current else "") == live_task_definition_arn:
            return ""
        for record in self.history():
            if record.task_definition_arn == live_task_definition_arn and record.outcome is Outcome.LIVE:
                self._move_pointer(record)
                return f"the pointer of release {record.release_id}, which ECS runs, was finished"
        for draft in self.open_drafts():
            if draft.content.get("task_definition_arn") == live_task_definition_arn:
                if draft.release_id != resuming:
                    self.close(
                        draft,
                        Outcome.LIVE,
                        f"ECS runs it; {draft.how_its_run_ended} before its record",
                        finished_at=now,
                    )
                    return f"the record of release {draft.release_id}, which ECS runs, was finished"
                return f"release {draft.release_id} is continued"
        raise self._unexplained(live_task_definition_arn, current)

    def _unexplained(self, live_task_definition_arn: str, current: Pointer | None) -> StateUnknown:
        return StateUnknown(
            f"ECS runs {live_task_definition_arn or 'nothing'}, but the ledger says "
            f"{f'{current.release_id} ({current.task_definition_arn})' if current else 'nothing was released'}, "
            "and no record or draft explains it.",
            f"look with `onnxship status`, then go to a known release: `onnxship rollback RELEASE {self.options}`",
        )

    def open_drafts(self) -> list[Draft]:
        """The releases without a record, newest first: their runs go on, or were interrupted."""
        keys = [key for key, _ in list_keys(self.aws, self.bucket, self.prefix)]
        ended = {key.rsplit("/", 1)[0] for key in keys if key.endswith("/record.json")}
        started = {key.rsplit("/", 1)[0] for key in keys if key.endswith("/draft.json")}
        drafts = [self._existing(folder.rsplit("/", 1)[1]) for folder in started - ended]
        return sorted(drafts, key=lambda draft: (draft.content["started_at"], draft.release_id), reverse=True)

    def _existing(self, release_id: str) -> Draft:
        if (draft := self.draft(release_id)) is None:
            raise StateUnknown(
                f"The draft of release `{release_id}` vanished while it was read.", "run the same command again"
            )
        return draft

    def _write_record(self, record: Record) -> Record:
        try:
            create_document(self.aws, self.bucket, self.key(record.release_id, "record.json"), asdict(record))
        except Lost as error:
            standing = self.record(record.release_id)
            if standing and (standing.outcome is Outcome.LIVE) == (record.outcome is Outcome.LIVE):
                return standing
            raise StateUnknown(
                f"Release `{record.release_id}` already has a record with another ending.",
                "compare with `onnxship history`; ECS is right: `onnxship status`",
            ) from error
        return record

    def _move_pointer(self, record: Record) -> None:
        key = f"{self.prefix}current.json"
        pointer = asdict(_pointer_to(record))
        present = read_document(self.aws, self.bucket, key)
        try:
            if present is None:
                create_document(self.aws, self.bucket, key, pointer)
            else:
                replace_document(self.aws, self.bucket, key, pointer, present.etag)
        except Lost as error:
            raise Locked(
                f"Another run moved the pointer of `{self.service}` in `{self.environment}` at the same moment.",
                f"see what runs: `onnxship status {self.options}`",
            ) from error


def _pointer_to(record: Record) -> Pointer:
    return Pointer(
        release_id=record.serves or record.release_id,
        event_id=record.release_id,
        task_definition_arn=record.task_definition_arn,
        image_digest=record.image_digest,
        git_sha=record.git_sha,
        committed_at=record.committed_at,
        moved_at=record.finished_at,
    )


def _record_from(content: dict[str, Any], outcome: Outcome, reason: str, finished_at: str) -> Record:
    return replace(_record({**content, "outcome": outcome}), reason=reason, finished_at=finished_at)


def _record(content: dict[str, Any]) -> Record:
    fields = _known_fields(Record, content)
    return Record(**{**fields, "outcome": Outcome(fields["outcome"])})


def _known_fields(kind: type[Record] | type[Pointer], content: dict[str, Any]) -> dict[str, Any]:
    """What this version knows of a document; another version may have written more."""
    return {name: content[name] for name in kind.__dataclass_fields__ if name in content}

"""An open release: what its run has found out and is about to do, and the command that goes on with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.aws.documents import Lost, replace_document
from pipeline.errors import Locked, PipelineError

if TYPE_CHECKING:
    from pipeline.aws.ledger import Ledger

NOBODY_READS = "the end of the program that read its output"


@dataclass
class Draft:
    """Facts and stage results as they come, each written before the next mutating call."""

    ledger: Ledger
    content: dict[str, Any]
    etag: str

    @property
    def release_id(self) -> str:
        return str(self.content["release_id"])

    @property
    def doing(self) -> str:
        """What its run was about to do last; of ARNs what names the thing."""
        return re.sub(r"arn:\S*/", "", self.content["intents"][-1]) if self.content["intents"] else "its start"

    @property
    def interruption(self) -> str:
        """What stopped its run in order, in words; "" when nothing did, or when a run has taken it up since."""
        return str((self.content.get("interrupted") or {}).get("by", ""))

    @property
    def how_its_run_ended(self) -> str:
        """In words, for the record that somebody else writes."""
        return f"its run was interrupted by {self.interruption}" if self.interruption else "its run ended"

    @property
    def resume_command(self) -> str:
        """What goes on with it, as it can be typed: files that were not committed then need their option again."""
        where = self.ledger.options
        if self.content["event"] == "rollback":
            return f"onnxship rollback {self.content['serves']} {where}"
        built = self.content["results"].get("build")
        is_dirty = built["tag"].endswith("-dirty") if built else self.content.get("allow_dirty", False)
        return f"onnxship ship --release {self.release_id} {'--allow-dirty ' if is_dirty else ''}{where}"

    def intend(self, what: str, **facts: Any) -> None:
        """Write down what is about to be done (and `facts` learnt so far). Raises Locked when another run writes."""
        taken_up = {key: value for key, value in self.content.items() if key != "interrupted"}
        self._write({**taken_up, **facts, "intents": [*self.content["intents"], what]})

    def note(self, stage: str, result: dict[str, Any], **facts: Any) -> None:
        """Keep a stage's result, so that a later run with the same id continues from it."""
        self._write({**self.content, **facts, "results": {**self.content["results"], stage: result}})

    @contextmanager
    def interruptible(self, now: Callable[[], datetime]) -> Iterator[None]:
        """Within the block an interruption is written down before it goes on its way: the run does not just vanish.

        Whether that can be written changes nothing, and is not waited for: the lock may be lost, or S3 away.
        """
        try:
            yield
        except (KeyboardInterrupt, BrokenPipeError) as error:
            by = NOBODY_READS if isinstance(error, BrokenPipeError) else str(error) or "Ctrl-C"
            ledger = replace(self.ledger, aws=self.ledger.aws.briefly())
            with contextlib.suppress(PipelineError):
                replace(self, ledger=ledger)._write(
                    {**self.content, "interrupted": {"by": by, "at": now().isoformat()}}
                )
            raise

    def _write(self, content: dict[str, Any]) -> None:
        try:
            key = self.ledger.key(self.release_id, "draft.json")
            self.etag = replace_document(self.ledger.aws, self.ledger.bucket, key, content, self.etag)
        except Lost as error:
            raise Locked(
                f"Another run writes release `{self.release_id}`.", f"see who: `onnxship status {self.ledger.options}`"
            ) from error
        self.content = content

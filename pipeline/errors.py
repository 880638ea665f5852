"""Every way a command can end other than well, with its exit code and its remedy.

PipelineError            (base; never raised itself)
├── UsageError        2  the call is wrong
├── ConfigError       2  onnxship.yaml, the model or the golden inputs are wrong
├── GateRefused       3  a gate said no; the new release never had production weight
├── RolledBack        4  the new release had production weight and has none now
├── StateUnknown      5  a person must look
├── AwsError          6  AWS refused or cannot be reached
└── Locked            7  somebody else ships, or a newer commit is live
"""

from __future__ import annotations


class PipelineError(Exception):
    """What happened, with name and number, and the one thing to do about it.

    `details` are further lines shown beneath (log lines of a stopped task, all errors of a file). `is_elsewhere`: this
    run did not decide it, it only saw it happen; who did may say more in the release's record.
    """

    exit_code = 1
    is_elsewhere = False

    def __init__(self, what: str, remedy: str, *, details: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {line}" for line in self.details), f"Fix: {self.remedy}"])


class UsageError(PipelineError):
    """The command was called with arguments that do not fit."""

    exit_code = 2


class ConfigError(PipelineError):
    """onnxship.yaml, the model or the golden inputs cannot be used as they are."""

    exit_code = 2


class GateRefused(PipelineError):
    """A gate said no before the new release had any production weight."""

    exit_code = 3


class RolledBack(PipelineError):
    """The new release had production weight, and has none now."""

    exit_code = 4


class StateUnknown(PipelineError):
    """What runs now cannot be told, or differs from what was asked: a person must look."""

    exit_code = 5


class AwsError(PipelineError):
    """AWS refused a call or could not be reached. `code` is AWS's own error code."""

    exit_code = 6

    def __init__(
        self, what: str, remedy: str, *, code: str = "", message: str = "", details: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, remedy, details=details)
        self.code = code
        self.message = message


class Locked(PipelineError):
    """Another run holds the lock, or a newer commit is already live."""

    exit_code = 7

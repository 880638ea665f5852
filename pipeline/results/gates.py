"""What judges say, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

JSON_ONLY = {"json_only": True}  # of a field that a table for people leaves out
BENEATH = {"beneath": True}  # of a field of sentences: in a terminal it stands beneath its row, which has no room


class Verdict(StrEnum):
    """What a judge says. No data is never a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Target:
    """A listener to send requests to: its base URL and the headers its rule asks for.

    `live_url` is the listener of the release that serves meanwhile; "" where there is none to compare with.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # one of them is the gate's secret
    live_url: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's verdict, the reason in a sentence, and what it rests on: numbers (units in their names), and lines."""

    name: str
    verdict: Verdict
    reason: str
    numbers: dict[str, float | int | str] = field(default_factory=dict, metadata=JSON_ONLY)
    details: tuple[str, ...] = field(default=(), metadata=JSON_ONLY)


@dataclass(frozen=True, slots=True)
class Quality:
    """The model's metric on the labelled golden inputs, and the floor it was held to."""

    metric: str
    value: float
    at_least: float
    samples: int


@dataclass(frozen=True, slots=True)
class LoadTested:
    """What Locust measured, and the verdict. Requests and failures are all that the release answered; rate, percentiles
    and duration are the load's; `against_live` holds the numbers of the comparison with what serves."""

    verdict: Verdict
    reason: str
    url: str
    requests: int
    failures: int
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    duration_s: float
    statuses: dict[str, int] = field(default_factory=dict)
    against_live: dict[str, float | int | str] = field(default_factory=dict)
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability that ECR reports."""

    id: str
    severity: str
    package: str
    fixed_in: str
    ignored_reason: str = ""


@dataclass(frozen=True, slots=True)
class Scanned:
    """ECR's findings for one image, and what the policy says of them."""

    image_digest: str
    status: str
    verdict: Verdict
    reason: str
    counts: dict[str, int]
    blocking: tuple[Finding, ...] = ()
    ignored: tuple[Finding, ...] = ()

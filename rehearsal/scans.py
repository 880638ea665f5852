"""What ECR says about vulnerabilities: nothing is scanned, findings are seeded, and a scan takes its moment.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.model import Shape
from botocore.utils import parse_timestamp
from botocore.validate import ParamValidator

SCAN_S = 1.0
SEED_KEYS = {"repositoryName", "imageTag", "imageDigest", "nextImage", "imageScanStatus", "imageScanFindings"}


@dataclass(frozen=True)
class Seed:
    """Findings for one image, one repository or every image; the empty fields match anything."""

    repository: str | None
    tag: str | None
    digest: str | None
    status: dict[str, str] | None
    findings: dict[str, Any]

    def matches(self, repository: str, digest: str, tags: list[str]) -> bool:
        """True when the seed speaks about this image."""
        return (
            self.repository in (None, repository)
            and self.digest in (None, digest)
            and (self.tag is None or self.tag in tags)
        )

    @property
    def precision(self) -> int:
        """How narrowly the seed names its image: the narrowest one counts."""
        return sum(value is not None for value in (self.repository, self.tag, self.digest))


@dataclass
class Scan:
    """One image's scan: begun, and complete a moment later."""

    enhanced: bool
    begun: float = field(default_factory=time.monotonic)
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_complete(self) -> bool:
        """True once the scan has taken its time."""
        return time.monotonic() - self.begun >= SCAN_S


class Scans:
    """Seeded findings, and what follows from them for an image."""

    def __init__(self) -> None:
        self._seeds: list[Seed] = []
        self._next: list[Seed] = []
        self._lock = threading.Lock()

    def seed(self, body: Any) -> dict[str, Any]:
        """Take findings in ECR's own shape. ValueError when it is not that shape."""
        if not isinstance(body, dict) or set(body) - SEED_KEYS:
            raise ValueError(f"Send a JSON object with these keys only: {', '.join(sorted(SEED_KEYS))}.")
        findings, status = body.get("imageScanFindings", {}), body.get("imageScanStatus")
        _check("ImageScanFindings", findings)
        _check("ImageScanStatus", status or {})
        findings = _typed(findings, _shape("ImageScanFindings"))
        seed = Seed(body.get("repositoryName"), body.get("imageTag"), body.get("imageDigest"), status, findings)
        with self._lock:
            (self._next if body.get("nextImage") else self._seeds).append(seed)
        return {"seeded": len(self._seeds) + len(self._next)}

    def bind_next(self, repository: str, digest: str) -> None:
        """A new image was pushed: the oldest seed for `the next image` becomes this image's."""
        with self._lock:
            waiting = next((seed for seed in self._next if seed.repository in (None, repository)), None)
            if waiting:
                self._next.remove(waiting)
                self._seeds.append(Seed(repository, None, digest, waiting.status, waiting.findings))

    def answer(self, scan: Scan, repository: str, digest: str, tags: list[str]) -> dict[str, Any]:
        """`imageScanStatus` and, once complete, `imageScanFindings` of an image."""
        if not scan.is_complete:
            status = "PENDING" if scan.enhanced else "IN_PROGRESS"
            return {"imageScanStatus": {"status": status, "description": "The scan is in progress."}}
        seed = self._for(repository, digest, tags)
        done = "ACTIVE" if scan.enhanced else "COMPLETE"
        status_of = (seed and seed.status) or {"status": done, "description": "The scan was completed successfully."}
        return {
            "imageScanStatus": status_of,
            "imageScanFindings": _completed(scan, seed.findings if seed else {}),
        }

    def _for(self, repository: str, digest: str, tags: list[str]) -> Seed | None:
        with self._lock:
            fitting = [seed for seed in self._seeds if seed.matches(repository, digest, tags)]
        # Of equally narrow seeds the latest counts.
        return max(reversed(fitting), key=lambda seed: seed.precision, default=None)


def _completed(scan: Scan, findings: dict[str, Any]) -> dict[str, Any]:
    listed = [*findings.get("findings", []), *findings.get("enhancedFindings", [])]
    counts = dict(Counter(finding["severity"] for finding in listed if "severity" in finding))
    nothing: dict[str, Any] = {"enhancedFindings": []} if scan.enhanced else {"findings": []}
    times = {"imageScanCompletedAt": scan.begun_at, "vulnerabilitySourceUpdatedAt": scan.begun_at}
    return {**nothing, **times, "findingSeverityCounts": counts, **findings}


def _check(shape: str, value: Any) -> None:
    report = ParamValidator().validate(value, _shape(shape))
    if report.has_errors():
        raise ValueError(f"{shape}: {report.generate_report()}")


def _typed(value: Any, shape: Any) -> Any:
    """The JSON value with its times as datetimes, as the answer's serializer wants them."""
    if shape.type_name == "structure":
        return {key: _typed(item, shape.members[key]) for key, item in value.items()}
    if shape.type_name == "list":
        return [_typed(item, shape.member) for item in value]
    return parse_timestamp(value) if shape.type_name == "timestamp" else value


@cache
def _shape(name: str) -> Shape:
    return botocore.session.get_session().get_service_model("ecr").shape_for(name)

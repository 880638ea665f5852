"""Scans: waited for, begun when there is none, and refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import AwsError, GateRefused
from pipeline.results import Verdict
from pipeline.stages.build import build
from pipeline.stages.scan import scan
from tests.pipeline.conftest import SERVICE, Cloud

BASIC = {
    "name": "CVE-2026-1",
    "severity": "CRITICAL",
    "attributes": [{"key": "package_name", "value": "openssl"}, {"key": "package_version", "value": "3.0.1"}],
}


def enhanced(severity: str, fix: str) -> dict[str, object]:
    packages = [{"name": "zlib", "version": "1.2", "fixedInVersion": "1.3" if fix == "YES" else "NotAvailable"}]
    details = {"vulnerabilityId": f"CVE-{severity}-{fix}", "vulnerablePackages": packages}
    return {"severity": severity, "fixAvailable": fix, "status": "ACTIVE", "packageVulnerabilityDetails": details}


@pytest.fixture
def digest(cloud: Cloud) -> str:
    """The digest of the project's image in the registry."""
    cloud.make_registry()
    return build(cloud.config, cloud.aws, cloud.clock, service=SERVICE, allow_dirty=True).image_digest


def test_a_clean_image_passes(cloud: Cloud, digest: str) -> None:
    """A finished scan without findings is a pass, with ECR's own status."""
    scanned = scan(cloud.config, cloud.aws, cloud.clock, service=SERVICE, image_digest=digest)

    assert (scanned.verdict, scanned.status) == (Verdict.PASS, "COMPLETE")


def test_a_critical_finding_refuses_the_image_by_name(cloud: Cloud, digest: str) -> None:
    """A gate's refusal names the finding and the package; an unknown fix counts as one."""
    cloud.seed_findings(imageScanFindings={"findings": [BASIC]})

    with pytest.raises(GateRefused) as caught:
        scan(cloud.config, cloud.aws, cloud.clock, service=SERVICE, image_digest=digest)

    assert caught.value.details == ("CRITICAL CVE-2026-1 openssl 3.0.1 (fixed in unknown)",)


def test_enhanced_findings_are_judged_alike(cloud: Cloud, digest: str) -> None:
    """Inspector's findings count when they can be fixed; ACTIVE is its finished."""
    findings = [enhanced("HIGH", "YES"), enhanced("CRITICAL", "NO"), enhanced("LOW", "YES")]
    status = {"status": "ACTIVE", "description": "Continuous scan is selected for image."}
    cloud.seed_findings(imageScanFindings={"enhancedFindings": findings}, imageScanStatus=status)

    with pytest.raises(GateRefused) as caught:
        scan(cloud.config, cloud.aws, cloud.clock, service=SERVICE, image_digest=digest)

    assert caught.value.details == ("HIGH CVE-HIGH-YES zlib 1.2 (fixed in 1.3)",)


def test_an_image_that_cannot_be_scanned_is_refused(cloud: Cloud, digest: str) -> None:
    """No findings because nothing was looked at is no pass; AWS's description is shown."""
    status = {"status": "UNSUPPORTED_IMAGE", "description": "The operating system is not supported."}
    cloud.seed_findings(imageScanStatus=status)

    with pytest.raises(GateRefused, match="UNSUPPORTED_IMAGE") as caught:
        scan(cloud.config, cloud.aws, cloud.clock, service=SERVICE, image_digest=digest)

    assert caught.value.details == ("The operating system is not supported.",)


@dataclass
class ScannedLongAgo:
    """An image that was clean when it was pushed a year ago, and is not by what is known today."""

    clock: Any
    is_limited: bool = False
    looks: int = 0
    started_at: datetime | None = None

    def call(self, _service: str, operation: str, /, **_: Any) -> dict[str, Any]:
        return dict(getattr(self, operation)())

    def describe_stacks(self) -> dict[str, Any]:
        outputs = [{"OutputKey": "RepositoryName", "OutputValue": "demo-test"}]
        return {"Stacks": [{"StackName": "r", "StackId": "1", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]}

    def start_image_scan(self) -> dict[str, Any]:
        if self.is_limited:
            raise AwsError("once a day", "wait", code="LimitExceededException")
        self.started_at = self.clock.now()
        return {}

    def describe_image_scan_findings(self) -> dict[str, Any]:
        self.looks += 1
        if self.started_at and self.looks < 4:
            return {"imageScanStatus": {"status": "IN_PROGRESS"}}
        ended_at = self.started_at or datetime(2025, 11, 21, tzinfo=UTC)
        findings = {"imageScanCompletedAt": ended_at, "findings": [BASIC] if self.started_at else []}
        return {"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings": findings}


def test_findings_of_long_ago_are_not_todays(config, clock) -> None:
    """A reused image is scanned again, and judged by what the new scan finds."""
    aws = ScannedLongAgo(clock)

    with pytest.raises(GateRefused, match="refuses it") as caught:
        scan(config, aws, clock, service=SERVICE, image_digest="sha256:1")

    assert "CVE-2026-1" in caught.value.details[0]
    assert clock.now() - aws.started_at < timedelta(minutes=5)


def test_where_ecr_starts_no_second_scan_its_own_counts(config, clock) -> None:
    """Nothing is waited for that does not come."""
    aws = ScannedLongAgo(clock, is_limited=True)

    assert scan(config, aws, clock, service=SERVICE, image_digest="sha256:1").verdict is Verdict.PASS
    assert clock.slept_s < 60

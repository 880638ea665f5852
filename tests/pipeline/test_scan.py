"""Scans: waited for, begun when there is none, and refused by name."""

from __future__ import annotations

import pytest

from pipeline.errors import GateRefused
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

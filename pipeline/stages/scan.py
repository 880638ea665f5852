"""`onnxship scan`: ECR's findings for one image, waited for and judged. An image that was not scanned does not pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pipeline import stacks
from pipeline.aws import ecr
from pipeline.aws.ecr import ScanReport
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.errors import AwsError, GateRefused, StateUnknown
from pipeline.judges import judge_findings
from pipeline.results import Finding, Scanned, Verdict
from pipeline.waiting import Clock, wait_until

TIMEOUT_S = 900.0
# Before its scan begins an image may have none for a moment, and enhanced scanning can only be waited for.
RUNNING_STATUSES = ("IN_PROGRESS", "PENDING")
# A basic scan knows the vulnerabilities of its day, and an image that is used again was pushed long ago. Enhanced
# scanning (ACTIVE) goes on by itself. One image is scanned once in 24 hours at most.
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html
OLD_AFTER = timedelta(hours=24)
SHOWN = 20
WORST_FIRST = ("CRITICAL", "HIGH", "MEDIUM", "LOW")


def scan(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    service: str,
    image_digest: str,
    on_progress: Callable[[str], None] = stacks.silent,
) -> Scanned:
    """ECR's findings for the image, judged by `services.<name>.scan`; a scan is begun when there is no recent one.

    Raises GateRefused naming the findings that block, or when the scan did not come to its end; StateUnknown when
    no scan shows within 15 minutes.
    """
    remedy = "run `onnxship build` first: it pushes the image that is scanned"
    repository = stacks.required_outputs(aws, config.stack_name("registry"), remedy)["RepositoryName"]
    report = _wait(config, aws, clock, repository, image_digest, on_progress)
    policy = config.services[service].scan
    scanned = judge_findings(
        image_digest,
        report.status,
        report.findings,
        fail_on=policy.fail_on,
        only_fixable=policy.only_fixable,
        ignore=policy.ignore,
        today=clock.now().date(),
    )
    on_progress(f"{report.status}: {scanned.reason}")
    if scanned.verdict is not Verdict.PASS:
        raise _refusal(scanned, report)
    return scanned


def _wait(
    config: Config,
    aws: Aws,
    clock: Clock,
    repository: str,
    image_digest: str,
    on_progress: Callable[[str], None],
) -> ScanReport:
    has_asked = has_begun = False

    def probe() -> ScanReport | None:
        nonlocal has_asked, has_begun
        report = ecr.scan_report(aws, repository, image_digest)
        is_wanted = report is None or _is_old(report, clock.now())
        if is_wanted and not has_asked:
            has_asked, has_begun = True, _begin(aws, repository, image_digest, on_progress)
        if report is None or report.status in RUNNING_STATUSES or (is_wanted and has_begun):
            return None
        return report

    return wait_until(
        probe,
        clock=clock,
        timeout_s=TIMEOUT_S,
        interval_s=config.poll_interval_s,
        on_timeout=lambda: StateUnknown(
            f"ECR has no finished scan of {image_digest} after {TIMEOUT_S:.0f} s.",
            "check the registry's scanning settings, then run `onnxship scan` again",
        ),
    )


def _is_old(report: ScanReport, now: datetime) -> bool:
    return report.status == "COMPLETE" and report.completed_at is not None and now - report.completed_at > OLD_AFTER


def _begin(aws: Aws, repository: str, image_digest: str, on_progress: Callable[[str], None]) -> bool:
    """Start a basic scan; false where ECR refuses that, because Inspector scans by itself or did so today."""
    try:
        ecr.start_scan(aws, repository, image_digest)
        on_progress("a scan was started")
        return True
    except AwsError as error:
        if error.code not in ("LimitExceededException", "ValidationException"):
            raise
        on_progress(f"no scan was started ({error.code}); the registry's own one counts")
        return False


def _refusal(scanned: Scanned, report: ScanReport) -> GateRefused:
    findings = sorted(scanned.blocking, key=lambda finding: (WORST_FIRST.index(finding.severity), finding.id))
    more = [f"and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
    description = [report.description] if not findings and report.description else []
    return GateRefused(
        f"The scan of {scanned.image_digest} refuses it: {scanned.reason}.",
        "update the packages (`image.base`, requirements.txt), or add an entry with a reason and a date to "
        "services.<name>.scan.ignore",
        details=(*map(_line, findings[:SHOWN]), *more, *description),
    )


def _line(finding: Finding) -> str:
    fix = f"fixed in {finding.fixed_in}" if finding.fixed_in else "no fix yet"
    return f"{finding.severity} {finding.id} {finding.package} ({fix})"

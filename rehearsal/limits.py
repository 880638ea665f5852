"""What a rehearsal cannot show, in sentences: every report carries them, and each part's own beside them."""

from __future__ import annotations

from rehearsal.context import Settings

ALWAYS = (
    "IAM authorises nothing here: every call is accepted. A good rehearsal proves no policy, trust or KMS permission.",
    "CloudFormation's schema checks, limits, quotas, drift and replacement rules are approximated.",
    "AWS never throttles here, and every change is visible at once.",
    "Fargate's start, image pulls over a network, ENIs and DNS take no time here.",
    "Latency, throughput, CPU sizes, autoscaling and cost are this machine's, not AWS's. A load test here shows that"
    " the release answers, not how much it can take.",
    "No image is scanned. The findings are the ones seeded for the rehearsal; the gate is rehearsed, not the scanner.",
    "ECR stores lifecycle policies and does not apply them.",
    "Cost alarms see injected numbers only: there is no billing data, and budgets are stored, never evaluated.",
    "Security groups, subnets, NAT, VPC endpoints, TLS, WAF, HTTP/2 and real DNS are recorded, not enforced.",
)
PROCESS = ("An image must be for linux/amd64, yet its tasks are processes of this machine's own architecture.",)


def sentences(settings: Settings) -> list[str]:
    """What this rehearsal does not show, given its engine and its clock."""
    clock = (
        f"One AWS minute of bake time, traffic steps and alarm periods takes {settings.seconds_per_minute:g} s here.",
    )
    return [*ALWAYS, *clock, *(PROCESS if settings.engine == "process" else ())]

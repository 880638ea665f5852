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
ENGINES = {
    "process": (
        "An image must be for linux/amd64, yet its tasks are processes of this machine's own architecture.",
        "The image's base system, user, read-only root and Linux capabilities are not used: its command runs in this"
        " machine's Python.",
        "CPU limits are not enforced. Memory is looked at twice a second: what rises and falls faster is not seen.",
    ),
    "docker": (
        "Containers share this machine's kernel and its CPUs by shares; Fargate gives each task a machine of its own.",
        "In a task of several containers each may use the task's memory by itself; on Fargate all of them together.",
        "There is no task metadata endpoint, and a task's role is fixed credentials.",
        "Containers reach whatever this machine reaches: a bridge network has no security groups.",
    ),
}


def sentences(settings: Settings) -> list[str]:
    """What this rehearsal does not show, given its engine and its clock."""
    clock = (
        f"One AWS minute of bake time, traffic steps and alarm periods takes {settings.seconds_per_minute:g} s here.",
    )
    return [*ALWAYS, *clock, *ENGINES[settings.engine]]

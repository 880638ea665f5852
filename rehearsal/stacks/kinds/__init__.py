"""Every resource type that the rehearsal can make. What is not in `KINDS` fails by name."""

from __future__ import annotations

from rehearsal.stacks.kind import Kind
from rehearsal.stacks.kinds import (
    budgets,
    cloudwatch,
    ecr,
    ecs,
    ecs_service,
    elbv2,
    iam,
    logs,
    network,
    s3,
    scaling,
    secretsmanager,
    security_groups,
    sns,
)

_MODULES = (
    budgets, cloudwatch, ecr, ecs, ecs_service, elbv2, iam, logs, network, s3, scaling, secretsmanager,
    security_groups, sns,
)  # fmt: skip
KINDS: dict[str, Kind] = {kind.type_name: kind for module in _MODULES for kind in module.KINDS}

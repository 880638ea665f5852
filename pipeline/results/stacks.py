"""What CloudFormation did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StackChange:
    """What happened to one CloudFormation stack: `created`, `updated`, `unchanged` or `deleted`."""

    stack_name: str
    action: str
    changes: tuple[str, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The stacks that exist once per account and environment."""

    stacks: tuple[StackChange, ...]
    repository_uri: str
    artifact_bucket: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """What CloudFormation did, stack by stack."""

    stacks: tuple[StackChange, ...]


@dataclass(frozen=True, slots=True)
class Alarmed:
    """The cost alarms, and the e-mail subscriptions that still wait for their confirmation."""

    stacks: tuple[StackChange, ...]
    monthly_usd: float
    subscriptions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The stacks that were deleted, and what still costs money."""

    stacks: tuple[StackChange, ...]
    still_costs: tuple[str, ...]

"""What stages found or did: frozen dataclasses with plain values, as they stand in records and reports.

Every result turns into JSON by `dataclasses.asdict`; enums are strings with AWS's or our own words.
"""

from pipeline.results.artifacts import Built, Initialised, Published, Signature, Stored, TensorSpec
from pipeline.results.deployments import (
    Aborted,
    Plan,
    Reverted,
    RollbackPlan,
    RolledOut,
    Shipped,
    StageSpan,
    TaskDefinition,
)
from pipeline.results.gates import (
    BENEATH,
    JSON_ONLY,
    Finding,
    GateResult,
    LoadTested,
    Quality,
    Scanned,
    Target,
    Verdict,
)
from pipeline.results.records import LockState, Outcome, Pointer, Record
from pipeline.results.stacks import Alarmed, Bootstrapped, Deployed, Destroyed, StackChange
from pipeline.results.views import (
    Check,
    Checkup,
    History,
    HistoryLine,
    LogLine,
    RunningDeployment,
    Status,
    TargetGroupState,
    TargetHealth,
)

__all__ = [
    "BENEATH",
    "JSON_ONLY",
    "Aborted",
    "Alarmed",
    "Bootstrapped",
    "Built",
    "Check",
    "Checkup",
    "Deployed",
    "Destroyed",
    "Finding",
    "GateResult",
    "History",
    "HistoryLine",
    "Initialised",
    "LoadTested",
    "LockState",
    "LogLine",
    "Outcome",
    "Plan",
    "Pointer",
    "Published",
    "Quality",
    "Record",
    "Reverted",
    "RollbackPlan",
    "RolledOut",
    "RunningDeployment",
    "Scanned",
    "Shipped",
    "Signature",
    "StackChange",
    "StageSpan",
    "Status",
    "Stored",
    "Target",
    "TargetGroupState",
    "TargetHealth",
    "TaskDefinition",
    "TensorSpec",
    "Verdict",
]

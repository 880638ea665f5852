"""A release of the story as report.json tells it, from the command's result or from the release's record."""

from __future__ import annotations

import json
from typing import Any

from demo.commands import Ended
from demo.faults import Fault

STAGES = ("build", "scan", "publish", "foundation", "alarms", "register")


def good(name: str, ended: Ended, kind: str = "good") -> dict[str, Any]:
    """A release that serves, or served."""
    result = ended.result
    kept = ("git_sha", "image_digest", "model_sha256", "outcome", "gates", "stages")
    return {
        "id": name, "kind": kind, "fault": "", "gate": "", "exit_code": ended.step.exit_code, "reason": "",
        "production_requests": 0, "failed_requests": 0, "started_s": ended.step.started_s,
        "duration_s": ended.step.duration_s, "durations_s": result.get("durations_s") or ended.durations_s,
    } | {key: result.get(key) for key in kept}  # fmt: skip


def bad(fault: Fault, ended: Ended, record: dict[str, Any]) -> dict[str, Any]:
    """A release that was refused or rolled back, as its record says."""
    results = record["results"]
    gates = list(results.get("gates", {}).values())
    return {
        "id": fault.release, "kind": "bad", "fault": fault.words, "gate": stopped_by(record),
        "outcome": record["outcome"], "exit_code": ended.step.exit_code, "reason": reason(record),
        "production_requests": 0, "failed_requests": 0, "git_sha": record["git_sha"],
        "image_digest": record["image_digest"], "model_sha256": results.get("publish", {}).get("model_sha256", ""),
        "started_s": ended.step.started_s, "duration_s": ended.step.duration_s, "durations_s": ended.durations_s,
        "gates": gates, "stages": ended.stages,
    }  # fmt: skip


def stopped_by(record: dict[str, Any]) -> str:
    """The stage or gate that stopped a release: the first stage without a result, or the gate that said no."""
    results = record["results"]
    missing = [stage for stage in STAGES if stage not in results]
    if missing:
        return missing[0]
    refused = [gate["name"] for gate in results.get("gates", {}).values() if gate["verdict"] != "pass"]
    if refused:
        return str(refused[0])
    return "bake" if record["outcome"] == "rolled-back" else "rollout"


def reason(record: dict[str, Any]) -> str:
    """The record's reason, and beneath it what it rests on; what the gates say stands with the gates."""
    names = tuple(f"{name}: " for name in record["results"].get("gates", {}))
    details = [line for line in record.get("details", []) if not (names and line.startswith(names))]
    return "\n".join([record["reason"], *details])


def mismatches(fault: Fault, told: dict[str, Any]) -> list[str]:
    """Where a bad release was not stopped by the one who should, or not for its fault, in words."""
    wrong = []
    if told["gate"] != fault.gate:
        wrong.append(f"{fault.release} was stopped by {told['gate']}, not by {fault.gate}: {told['reason']}")
    if fault.says not in told["reason"]:
        wrong.append(f"the reason of {fault.release} does not mention {fault.says!r}: {told['reason']}")
    return wrong


def as_json(text: str) -> dict[str, Any]:
    """A JSON object."""
    return dict(json.loads(text))

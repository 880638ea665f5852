"""A report.json as the whole story leaves it, made without telling the story: releases good, refused, rolled back."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

BEGAN = datetime(2026, 11, 21, 8, 24, 10, tzinfo=UTC)
USERS_FROM_S, ENDS_S, A_SECOND = 48.0, 212.0, 40
CRASH = (
    "the new release never had a running task: 3 tasks stopped. Essential container in task exited (exit code 1). "
    'Its last log lines:\n  File "/app/service.py", line 7, in startup\n    raise RuntimeError("<script>alert(1)'
    '</script> no weights & no plan")\nRuntimeError: no weights'
)
SLOWER = "slower than what serves: median 91.2 ms against 6.4 ms (x14.2; p95 x4.05), at most x1.5"
PRODUCTION = [("v1", USERS_FROM_S - 8), ("v2", 76.0), ("late-failure", 178.0), ("v2", 189.0), ("v1", 203.0)]
BAD = [
    ("permuted", "the model's classes are in another order", "publish", 4.1,
     "accuracy 0.0936 on 256 rows is below 0.9"),
    ("wrong-answers", "the image's own code answers with swapped probabilities", "golden", 17.9,
     "`probabilities` differs in 2,304 of 2,560 values, by up to 0.999871"),
    ("crashes", "the container ends as soon as it starts", "rollout", 14.2, CRASH),
    ("never-healthy", "the health check never passes", "rollout", 21.4,
     "no task became healthy within 15 s (start_deadline_s): Task failed ELB health checks in "
     "(target-group arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/digits-green/0123456789abcdef)"),
    ("slow", "every answer waits for a look-up in another house", "load", 19.6, SLOWER),
    ("arm64", "the image that lies under this commit's tag was built for arm64", "build", 2.2,
     "the image is for linux/arm64, not linux/amd64"),
    ("finding", "the image's scan has a critical finding that a newer package would mend", "scan", 3.4,
     "1 of 3 findings blocks (HIGH or worse, with a fix available); 0 are ignored by rule"),
]  # fmt: skip


def sample() -> dict[str, Any]:
    """One report; every call makes a new one, always the same."""
    releases = _releases()
    return {
        "ok": True, "duration_s": 214.6, "setup_s": 31.0, "engine": "process", "strategy": "BLUE_GREEN",
        "seconds_per_aws_minute": 2.0, "machine": {"cpus": 2, "system": "Linux 6.1 x86_64", "python": "3.11.9"},
        "started_at": BEGAN.isoformat(), "steps": _steps(releases), "releases": releases, "traffic": _traffic(),
        "billing": {
            "budget_usd": 300.0, "data_point_usd": 342.5, "alarm": "digits-production-cost-billing", "state": "ALARM",
            "subscriber": "http://127.0.0.1:43121/inbox", "delivered": True, "delivered_after_s": 1.8,
            "message": "ALARM: digits-production-cost-billing: EstimatedCharges 342.5 USD is over the budget of 300",
        },
        "problems": [],
        "not_rehearsed": [
            "IAM authorises nothing here: every call is accepted. A good rehearsal proves no policy or permission.",
            "AWS never throttles here, and every change is visible at once.",
            "No image is scanned. The findings are the ones seeded for the rehearsal; the gate is rehearsed, not "
            "the scanner.",
        ],
        "recorded_only": ["AWS::Budgets::Budget", "AWS::CloudWatch::Dashboard", "AWS::IAM::Role"],
    }  # fmt: skip


def _releases() -> list[dict[str, Any]]:
    good = [_release("v1", 16.0, 29.2), _release("v2", 52.0, 26.5)]
    bad, at = [], 83.0
    for name, fault, gate, duration_s, reason in BAD:
        told = {"kind": "bad", "fault": fault, "gate": gate, "outcome": "refused", "exit_code": 3, "reason": reason}
        bad.append(_release(name, at, duration_s, **told))
        at += duration_s + 0.3
    late = _release(
        "late-failure", 169.5, 21.0, kind="bad", fault="it passes every gate and fails in production", gate="bake",
        outcome="rolled-back", exit_code=4, production_requests=438, failed_requests=51,
        reason="alarm digits-production-5xx went off in the bake; ECS moved production back to v2",
    )  # fmt: skip
    back = _release("rollback to v1", 193.0, 12.9, kind="rollback", production_requests=360) | {"git_sha": ""}
    return [*good, *bad, late, back]


def _release(name: str, started_s: float, duration_s: float, **told: Any) -> dict[str, Any]:
    kind, gate = told.get("kind", "good"), told.get("gate", "")
    number = random.Random(name).getrandbits(256)
    prepared = {"build": 0.2, "scan": 1.0, "publish": 0.2, "foundation": 0.6, "alarms": 0.2, "register": 0.1}
    stopped_early = gate in ("build", "scan", "publish")
    if stopped_early:
        prepared = {stage: prepared[stage] for stage in list(prepared)[: list(prepared).index(gate) + 1]}
    left = duration_s - sum(prepared.values())
    return {
        "id": name, "kind": kind, "fault": "", "gate": "", "outcome": "live", "exit_code": 0, "reason": "",
        "production_requests": 1200 if kind == "good" else 0, "failed_requests": 0, "git_sha": f"{number:064x}"[:40],
        "image_digest": "" if stopped_early else f"sha256:{number:064x}", "model_sha256": f"{number:064x}"[::-1],
        "started_s": started_s, "duration_s": duration_s,
        "durations_s": prepared if stopped_early else prepared | {"rollout": round(left, 2)},
        "gates": [] if stopped_early or gate == "rollout" else _gates(gate),
        "stages": [] if stopped_early else _stages(started_s + duration_s - left, left, gate),
    } | told  # fmt: skip


def _gates(stopped_by: str) -> list[dict[str, Any]]:
    slow = stopped_by == "load"
    golden = {
        "name": "golden", "verdict": "fail" if stopped_by == "golden" else "pass",
        "reason": "2 outputs equal ONNX Runtime's own on 256 rows",
        "numbers": {"rows": 256, "probabilities_max_difference": 2.98e-08},
    }  # fmt: skip
    load = {
        "name": "load", "verdict": "fail" if slow else "pass",
        "reason": "187 requests, 0 failed, p99 38.4 ms (at most 1000)" + (f"; {SLOWER}" if slow else ""),
        "numbers": {
            "requests": 187, "failures": 0, "rps": 31.167, "p50_ms": 6.218, "p95_ms": 32.796, "p99_ms": 38.373,
            "duration_s": 6.0, "compared_requests": 60, "live_requests": 60, "live_failures": 0,
            "max_latency_ratio": 1.5, "new_p50_ms": 91.2 if slow else 6.6, "live_p50_ms": 6.4,
            "p50_ratio": 14.25 if slow else 1.031, "p50_ratio_low": 12.9 if slow else 0.912,
            "p50_ratio_high": 15.6 if slow else 1.204, "new_p95_ms": 120.7 if slow else 30.1, "live_p95_ms": 29.8,
            "p95_ratio": 4.05 if slow else 1.01, "p95_ratio_low": 3.1 if slow else 0.7, "p95_ratio_high": 5.2,
        },
    }  # fmt: skip
    return [golden] if stopped_by == "golden" else [golden, load]


def _stages(at_s: float, length_s: float, gate: str) -> list[dict[str, Any]]:
    shares = {"SCALE_UP": 0.25, "POST_TEST_TRAFFIC_SHIFT": 0.45, "BAKE_TIME": 0.2, "CLEAN_UP": 0.1}
    if gate == "rollout":
        shares = {"SCALE_UP": 1.0}
    elif gate and gate != "bake":
        shares = {"SCALE_UP": 0.35, "POST_TEST_TRAFFIC_SHIFT": 0.55, "CLEAN_UP": 0.1}
    stages = []
    for stage, share in shares.items():
        started_at = (BEGAN + timedelta(seconds=at_s)).isoformat()
        stages.append({"stage": stage, "started_at": started_at, "duration_s": round(share * length_s, 3)})
        at_s += share * length_s
    return stages


def _steps(releases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = [("train the models", "", 0.0, 6.9), ("start the local AWS", "onnxship rehearse up", 7.0, 4.2)]
    told += [("bootstrap", "onnxship bootstrap", 11.3, 4.4)]
    told += [("ship v2 again", "onnxship ship --release v2", 79.5, 2.0)]
    told += [("the bill grows", "", 206.5, 2.2), ("look at the history", "onnxship history", 209.0, 1.1)]
    steps = [(name, command, at, took, 0) for name, command, at, took in told]
    for release in releases:
        name, at, took = release["id"], release["started_s"] - 0.4, release["duration_s"] + 1.2
        verb = "roll back" if release["kind"] == "rollback" else f"ship {name}"
        steps.append((verb, f"onnxship ship --release {name} --yes", at, took, release["exit_code"]))
    keys = ("name", "command", "started_s", "duration_s", "exit_code")
    rows = [dict(zip(keys, step, strict=True)) for step in sorted(steps, key=lambda step: step[2])]
    return [row | {"why": "As a user would.", "expected_exit_code": row["exit_code"], "ok": True} for row in rows]


def _traffic() -> dict[str, Any]:
    chance = random.Random(3)
    timeline = [_second(second, chance) for second in range(int(ENDS_S - USERS_FROM_S))]
    by_release: dict[str, int] = {}
    for second in timeline:
        for release, count in second["by_release"].items():
            by_release[release] = by_release.get(release, 0) + count
    return {
        "requests": sum(by_release.values()), "failed": 0, "failures": {}, "suffered": 51, "by_release": by_release,
        "p50_ms": 4.02, "p95_ms": 20.2, "p99_ms": 48.39, "started_s": USERS_FROM_S,
        "shifts": [at - USERS_FROM_S for _, at in PRODUCTION[1:]],
        "weights": [{"at_s": at, "shares": {release: 100}} for release, at in PRODUCTION], "timeline": timeline,
    }  # fmt: skip


def _second(second: int, chance: random.Random) -> dict[str, Any]:
    story_s = USERS_FROM_S + second
    serving = [(release, at) for release, at in PRODUCTION if at < story_s + 1]
    shares = {serving[-1][0]: A_SECOND}
    if serving[-1][1] > story_s and len(serving) > 1:
        shares = {serving[-2][0]: A_SECOND // 2, serving[-1][0]: A_SECOND // 2}
    latency = {}
    for release in shares:
        p50 = round(3.0 + 4 * chance.random() ** 2, 2)
        latency[release] = {"p50": p50, "p99": round(p50 * (2 + 18 * chance.random() ** 3), 2)}
    failed = 8 if "late-failure" in shares and second % 2 else 0
    tails = [values["p99"] for values in latency.values()]
    return {"second": second, "by_release": shares, "failed": failed, "p50_ms": p50, "p99_ms": max(tails),
            "latency_ms": latency}  # fmt: skip

"""The golden gate: on the user's inputs the server must answer as ONNX Runtime itself did when the model was published.

A program of its own sends the rows over the listener, here or in the VPC (`python -m loadtests.golden`); what came back
is judged here. Finds serving faults: the wrong model or release behind the port, tensors mixed up, numbers that differ,
and a `/predict` that says something else than the model.
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np

from pipeline.aws.models import PinnedModel
from pipeline.config import Config
from pipeline.deployment.measuring import Job, Measure, measure_here
from pipeline.judges import judge_parity, judge_predictions
from pipeline.results import GateResult, Target, Verdict

NAME = "golden"
PROGRAM = "loadtests.golden"
TIMEOUT_S = 300.0
EDGE_STATUSES = (403, 429)
PREDICT_ROWS = 32
ANOTHER_WAY = "; if that is meant so, set services.<name>.gate.predict: status"
Array = np.ndarray[Any, Any]
Answer = dict[str, Any]
T = TypeVar("T")


class _Stopped(Exception):
    """What came back needs no comparison: it decides already."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


def golden(
    config: Config,
    *,
    service: str,
    target: Target,
    release_id: str,
    model: PinnedModel,
    measure: Measure = measure_here,
) -> GateResult:
    """Have every golden row sent to `target` in small batches and judge the answers by parity, output by output."""
    gate = config.services[service].gate
    rows = str(PREDICT_ROWS if gate.asks_predict else 0)
    said = measure(Job(PROGRAM, ("--url", target.url, "--predict-rows", rows), target, model, TIMEOUT_S))
    expected = recorded_outputs(model.golden_npz)
    numbers: dict[str, float | int | str] = {"rows": said["rows"]}
    tolerance = config.services[service].model.tolerance
    try:
        answered = _outputs(said, target.url, release_id, model.version)
        verdict, reason, measured = judge_parity(expected, answered, rtol=tolerance.rtol, atol=tolerance.atol)
        if verdict is Verdict.PASS and gate.asks_predict:
            label = (model.manifest.get("predict") or {}).get("label") if gate.predict == "label" else None
            labels = expected.get(label) if label else None
            verdict, predict_reason = _judge_predict(said["predicted"], release_id, labels)
            reason = f"{reason}; {predict_reason}" if verdict is Verdict.PASS else predict_reason
    except _Stopped as stopped:
        return GateResult(NAME, stopped.verdict, stopped.reason, numbers)
    return GateResult(NAME, verdict, reason, numbers | measured)


def _judge_predict(answers: list[Answer], release_id: str, labels: Array | None) -> tuple[Verdict, str]:
    """`/predict` answers each row; where it names a `prediction` and the model a label, they go together."""
    if not answers:
        return Verdict.INCONCLUSIVE, "`/predict` was not asked"
    for answer in answers:
        _check(answer, release_id)
    predicted = [_read(answer, prediction_of) for answer in answers]
    if labels is None or all(value is None for value in predicted):
        return Verdict.PASS, f"`/predict` answers {len(answers)} rows"
    verdict, reason = judge_predictions(labels[: len(predicted)], predicted)
    return verdict, reason + (ANOTHER_WAY if verdict is Verdict.FAIL else "")


def prediction_of(answer: Any) -> Any:
    """The `prediction` of an answer to one row, bare or the only one of a list; None where service.py gives none."""
    if not isinstance(answer, dict):
        return None
    several = answer.get("predictions")
    only = several[0] if isinstance(several, list) and len(several) == 1 else answer
    return only.get("prediction") if isinstance(only, dict) else None


def recorded_outputs(golden_npz: bytes) -> dict[str, Array]:
    """ONNX Runtime's own answers, as `publish` recorded them, by output name."""
    with np.load(io.BytesIO(golden_npz), allow_pickle=False) as archive:
        return {name.removeprefix("output:"): archive[name] for name in archive.files if name.startswith("output:")}


def output_arrays(answer: dict[str, Any]) -> dict[str, Array]:
    """The outputs of an inference response by name; text stays text, numbers are float64 or int64."""
    arrays = {}
    for output in answer["outputs"]:
        arrays[output["name"]] = np.array(output["data"]).reshape(output["shape"])
    return arrays


def _outputs(said: dict[str, Any], url: str, release_id: str, version: str) -> dict[str, Array]:
    """All rows' outputs, joined in order, each answer checked for the release that gave it."""
    answers: list[Answer] = said["answers"]
    for answer in answers:
        _check(answer, release_id)
        if answer is answers[0]:
            _check_version(answer, version)
    if said["unreachable"]:
        raise _Stopped(Verdict.INCONCLUSIVE, f"{url} cannot be reached: {said['unreachable']}")
    batches = [_read(answer, output_arrays) for answer in answers[1:]]
    names = set.intersection(*(set(batch) for batch in batches)) if batches else set()
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


def _check(answer: Answer, release_id: str) -> None:
    status = answer["status"]
    if status in EDGE_STATUSES:
        raise _Stopped(Verdict.INCONCLUSIVE, f"the edge answered {status}, not the model")
    if status != HTTPStatus.OK:
        raise _Stopped(Verdict.FAIL, f"{answer['path']} answered {status}: {' '.join(answer['body'].split())[:300]}")
    if answer["release"] != release_id:
        raise _Stopped(Verdict.FAIL, f"release `{answer['release'] or 'unknown'}` answered, not `{release_id}`")


def _check_version(metadata: Answer, version: str) -> None:
    """The served model is the published one."""
    versions = _read(metadata, lambda content: [str(v) for v in content["versions"]])
    if version not in versions:
        raise _Stopped(Verdict.FAIL, f"model version {', '.join(versions) or 'none'} is served, not {version}")


def _read(answer: Answer, parse: Callable[[Any], T]) -> T:
    """The parsed answer; one that is not what the protocol says fails the release."""
    try:
        return parse(json.loads(answer["body"]))
    except (KeyError, TypeError, ValueError) as error:
        said = f"{answer['path']} gave no answer of the protocol ({error!r}): {answer['body'][:200]}"
        raise _Stopped(Verdict.FAIL, said) from error

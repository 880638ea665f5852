"""The golden gate: on the user's inputs the server must answer as ONNX Runtime itself did when the model was published.

Speaks the Open Inference Protocol as any client would, over the same listener. Finds serving faults: the wrong model
or release behind the port, tensors mixed up, numbers that differ.
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import numpy as np

from pipeline.aws.models import PinnedModel
from pipeline.config import Config
from pipeline.judges import judge_parity
from pipeline.results import GateResult, Target, Verdict
from pipeline.waiting import Clock

NAME = "golden"
BATCH_ROWS = 8
TIMEOUT_S = 30.0
REACH_WITHIN_S = 30.0
EDGE_STATUSES = (403, 429)
NOT_YET_STATUSES = (403, 502, 503, 504)
RELEASE_HEADER = "X-Onnxship-Release"
Array = np.ndarray[Any, Any]
T = TypeVar("T")


class _Stopped(Exception):
    """The gate needs no further answer: what it found so far decides."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


def golden(
    config: Config, clock: Clock, *, service: str, target: Target, release_id: str, model: PinnedModel
) -> GateResult:
    """Send every golden row to `target` in small batches and judge the answers by parity, output by output."""
    expected = recorded_outputs(model.golden_npz)
    inputs = {spec["name"]: spec for spec in model.manifest["inputs"]}
    rows = _rows(model.golden_npz, tuple(inputs))
    numbers: dict[str, float | int | str] = {"rows": len(next(iter(rows.values()), ()))}
    tolerance = config.services[service].model.tolerance
    try:
        with httpx.Client(base_url=target.url, headers=target.headers, timeout=TIMEOUT_S) as client:
            session = _Session(client, model.name, model.version, release_id)
            session.check_version(clock)
            answered = session.infer_all(rows, inputs)
    except _Stopped as stopped:
        return GateResult(NAME, stopped.verdict, stopped.reason, numbers)
    except httpx.HTTPError as error:
        return GateResult(NAME, Verdict.INCONCLUSIVE, f"{target.url} cannot be reached: {error!r}", numbers)
    verdict, reason, measured = judge_parity(expected, answered, rtol=tolerance.rtol, atol=tolerance.atol)
    return GateResult(NAME, verdict, reason, numbers | measured)


def recorded_outputs(golden_npz: bytes) -> dict[str, Array]:
    """ONNX Runtime's own answers, as `publish` recorded them, by output name."""
    with np.load(io.BytesIO(golden_npz), allow_pickle=False) as archive:
        return {name.removeprefix("output:"): archive[name] for name in archive.files if name.startswith("output:")}


def infer_request(batch: dict[str, Array], inputs: dict[str, Any]) -> dict[str, Any]:
    """An inference request in JSON; tensors are flat and row-major."""
    return {
        "inputs": [
            {
                "name": name,
                "datatype": inputs[name]["datatype"],
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for name, array in batch.items()
        ]
    }


def output_arrays(answer: dict[str, Any]) -> dict[str, Array]:
    """The outputs of an inference response by name; text stays text, numbers are float64 or int64."""
    arrays = {}
    for output in answer["outputs"]:
        arrays[output["name"]] = np.array(output["data"]).reshape(output["shape"])
    return arrays


def _rows(golden_npz: bytes, names: tuple[str, ...]) -> dict[str, Array]:
    with np.load(io.BytesIO(golden_npz), allow_pickle=False) as archive:
        return {name: archive[name] for name in names}


def _batches(rows: dict[str, Array]) -> Iterator[dict[str, Array]]:
    count = len(next(iter(rows.values())))
    for start in range(0, count, BATCH_ROWS):
        yield {name: array[start : start + BATCH_ROWS] for name, array in rows.items()}


def _read(response: httpx.Response, parse: Callable[[Any], T]) -> T:
    """The parsed answer; one that is not what the protocol says fails the release."""
    try:
        return parse(response.json())
    except (KeyError, TypeError, ValueError) as error:
        said = f"{response.request.url.path} gave no answer of the protocol ({error!r}): {response.text[:200]}"
        raise _Stopped(Verdict.FAIL, said) from error


@dataclass(frozen=True, slots=True)
class _Session:
    """Requests to one model, each answer checked for the release that gave it."""

    client: httpx.Client
    model: str
    version: str
    release_id: str

    def check_version(self, clock: Clock) -> None:
        """The served model is the published one. A port that has just been opened is given a moment."""
        versions = _read(self._first_answer(clock), lambda answer: [str(v) for v in answer["versions"]])
        if self.version not in versions:
            served = ", ".join(versions) or "none"
            raise _Stopped(Verdict.FAIL, f"model version {served} is served, not {self.version}")

    def infer_all(self, rows: dict[str, Array], inputs: dict[str, Any]) -> dict[str, Array]:
        """All rows' outputs, joined in order."""
        path = f"/v2/models/{self.model}/infer"
        answers = []
        for batch in _batches(rows):
            response = self._checked(self.client.post(path, json=infer_request(batch, inputs)))
            answers.append(_read(response, output_arrays))
        names = set.intersection(*(set(answer) for answer in answers)) if answers else set()
        return {name: np.concatenate([answer[name] for answer in answers]) for name in names}

    def _first_answer(self, clock: Clock) -> httpx.Response:
        """The model's metadata; security groups and listener rules take seconds until they act everywhere."""
        deadline = clock.monotonic() + REACH_WITHIN_S
        while True:
            try:
                response = self.client.get(f"/v2/models/{self.model}")
                if response.status_code not in NOT_YET_STATUSES or clock.monotonic() >= deadline:
                    return self._checked(response)
            except httpx.TransportError:
                if clock.monotonic() >= deadline:
                    raise
            clock.sleep(1)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code in EDGE_STATUSES:
            raise _Stopped(Verdict.INCONCLUSIVE, f"the edge answered {response.status_code}, not the model")
        if response.status_code != httpx.codes.OK:
            said = " ".join(response.text.split())[:300]
            raise _Stopped(Verdict.FAIL, f"{response.request.url.path} answered {response.status_code}: {said}")
        release_id = response.headers.get(RELEASE_HEADER, "")
        if release_id != self.release_id:
            raise _Stopped(Verdict.FAIL, f"release `{release_id or 'unknown'}` answered, not `{self.release_id}`")
        return response

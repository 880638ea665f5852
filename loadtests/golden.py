"""`python -m loadtests.golden`: every golden row sent to one listener, and a JSON file of the answers as they came.

Speaks the Open Inference Protocol as any client would; then the first rows go to `/predict`, one by one. Stops at the
first answer that is not 200. Exit code 0 whenever a result was written; what it means is judged elsewhere.
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from loadtests.payloads import golden_bodies, tensor
from loadtests.resolving import resolve

BATCH_ROWS = 8
ANSWER_WITHIN_S = 30.0
LOOK_AGAIN_S = 1.0
PARENT_CHECK_S = 1.0
RELEASE_HEADER = "X-Onnxship-Release"
# Security groups and listener rules take seconds until they act everywhere.
NOT_YET_STATUSES = (403, 502, 503, 504)
Answer = dict[str, Any]


@dataclass
class Client:
    """One connection to a listener, opened anew after a failure."""

    url: str
    headers: dict[str, str]
    _connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, content: Any = None) -> Answer:
        """Path, status, release header and text of the answer. Raises OSError or HTTPException when there is none."""
        body = json.dumps(content).encode() if content is not None else None
        connection = self._connection = self._connection or self._connect()
        try:
            headers = self.headers | ({"Content-Type": "application/json"} if body else {})
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self._connection = None
            connection.close()
            raise
        return {
            "path": path,
            "status": response.status,
            "release": response.headers.get(RELEASE_HEADER) or "",
            "body": text,
        }

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=ANSWER_WITHIN_S)


def main() -> None:
    """Ask once about the model and once for each batch of rows."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    resolve(options.resolve, socket)
    manifest = json.loads(options.manifest.read_text())
    headers = json.loads(options.headers.read_text()) if options.headers else {}
    client = Client(options.url, headers)
    result = ask_all(client, manifest, options.golden, options.reach_within_s, options.predict_rows)
    unfinished = options.output.with_name(options.output.name + ".unfinished")
    unfinished.write_text(json.dumps(result))
    unfinished.replace(options.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.golden", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the listener")
    parser.add_argument("--manifest", type=Path, required=True, help="the model's manifest.json")
    parser.add_argument("--golden", type=Path, required=True, help="the published golden.npz")
    parser.add_argument("--headers", type=Path, help="JSON file of headers; secrets here show in no process list")
    parser.add_argument("--resolve", action="append", default=[], metavar="HOST=IP[,IP]", help="instead of DNS")
    parser.add_argument("--predict-rows", type=int, default=0, help="rows that go to /predict afterwards")
    parser.add_argument("--reach-within-s", type=float, default=30, help="how long a port may need until it is open")
    parser.add_argument("--output", type=Path, required=True, help="where the JSON result goes")
    return parser.parse_args()


def ask_all(
    client: Client, manifest: dict[str, Any], golden: Path, reach_within_s: float, predict_rows: int
) -> dict[str, Any]:
    """The answers in order, the model's metadata first; `unreachable` says why there is no further one."""
    path = f"/v2/models/{manifest['name']}"
    result: dict[str, Any] = {"rows": 0, "answers": [], "predicted": [], "unreachable": ""}
    try:
        result["answers"].append(first_answer(client, path, reach_within_s))
        for rows in batches(golden, manifest["inputs"]):
            if result["answers"][-1]["status"] != http.client.OK:
                break
            result["answers"].append(client.ask("POST", f"{path}/infer", {"inputs": rows}))
            result["rows"] += rows[0]["shape"][0] if rows else 0
        if predict_rows and result["answers"][-1]["status"] == http.client.OK:
            result["predicted"] += predictions(client, golden_bodies(manifest, golden, "predict")[:predict_rows])
    except (OSError, http.client.HTTPException) as error:
        result["unreachable"] = repr(error)
    return result


def predictions(client: Client, bodies: list[bytes]) -> Iterator[Answer]:
    """What `/predict` answers to each body, up to the first that is not 200."""
    for body in bodies:
        answer = client.ask("POST", "/predict", json.loads(body))
        yield answer
        if answer["status"] != http.client.OK:
            return


def first_answer(client: Client, path: str, reach_within_s: float) -> Answer:
    """The model's metadata; a port that has just been opened is given a moment."""
    deadline = time.monotonic() + reach_within_s
    while True:
        try:
            answer = client.ask("GET", path)
            if answer["status"] not in NOT_YET_STATUSES or time.monotonic() >= deadline:
                return answer
        except (OSError, http.client.HTTPException):
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_AGAIN_S)


def batches(golden: Path, inputs: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The golden rows as the `inputs` of inference requests; tensors are flat and row-major."""
    with np.load(golden, allow_pickle=False) as archive:
        rows = {spec["name"]: archive[spec["name"]] for spec in inputs}
    size = 1 if any(spec["shape"][:1] == [1] for spec in inputs) else BATCH_ROWS  # the model may take no more
    for start in range(0, len(next(iter(rows.values()), ())), size):
        yield [tensor(spec, rows[spec["name"]][start : start + size]) for spec in inputs]


def _end_with_parent(parent: int) -> None:
    """No requests without somebody who waits for their answers."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


if __name__ == "__main__":
    main()

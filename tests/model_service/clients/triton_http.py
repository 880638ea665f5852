"""`triton_http.py HOST:PORT`: tritonclient.http talks to the server and prints the facts as JSON."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from triton_http_talk import Awaited, talk
from tritonclient.http import InferenceServerClient, InferInput

TOGETHER = 32


def together(client: InferenceServerClient) -> list[float]:
    """Many requests at once: the client's own greenlets."""
    waiting = []
    for number in range(TOGETHER):
        row = np.full((1, 2), number, np.float32)
        waiting.append(client.async_infer("echo-FP32", [InferInput("x", [1, 2], "FP32").set_data_from_numpy(row)]))
    return [float(one.get_result().as_numpy("y")[0, 0]) for one in waiting]


def main(url: str) -> None:
    with InferenceServerClient(url, concurrency=8) as client:
        facts: dict[str, Any] = asyncio.run(talk(Awaited(client), url))
        facts["together"] = together(client)
    print(json.dumps(facts))


main(sys.argv[1])

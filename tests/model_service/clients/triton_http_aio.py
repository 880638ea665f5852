"""`triton_http_aio.py HOST:PORT`: tritonclient.http.aio talks to the server and prints the facts as JSON."""

import asyncio
import json
import sys

import numpy as np
from triton_http_talk import Awaited, talk
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient

TOGETHER = 32


async def together(client: InferenceServerClient) -> list[float]:
    """Many requests at once, gathered."""
    rows = [np.full((1, 2), number, np.float32) for number in range(TOGETHER)]
    inputs = [[InferInput("x", [1, 2], "FP32").set_data_from_numpy(row)] for row in rows]
    results = await asyncio.gather(*(client.infer("echo-FP32", one) for one in inputs))
    return [float(result.as_numpy("y")[0, 0]) for result in results]


async def main(url: str) -> None:
    async with InferenceServerClient(url) as client:
        facts = await talk(Awaited(client), url)
        facts["together"] = await together(client)
    print(json.dumps(facts))


asyncio.run(main(sys.argv[1]))

"""`kserve_grpc.py HOST:PORT`: KServe's gRPC client talks to the server and prints the facts as JSON."""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from samples import SAMPLES, is_same

ZEROS = np.zeros((1, 2), np.float32)


async def main(url: str) -> None:
    async with InferenceGRPCClient(url, retries=0) as client:
        facts = {
            "health": [
                await client.is_server_live(),
                await client.is_server_ready(),
                await client.is_model_ready("adder"),
            ],
            "raw": {datatype: await echo(client, datatype, is_raw=True) for datatype in SAMPLES},
            "typed": {
                datatype: await echo(client, datatype, is_raw=False) for datatype in SAMPLES if datatype != "FP16"
            },
            "refused": await refused(client),
        }
    print(json.dumps(facts))


async def echo(client: InferenceGRPCClient, datatype: str, *, is_raw: bool) -> str:
    """Whether a tensor comes back as it was sent: as raw bytes, or in the typed members of the messages."""
    sent = SAMPLES[datatype]
    made = InferInput("x", list(sent.shape), datatype)
    made.set_data_from_numpy(sent, binary_data=is_raw)
    if datatype == "BYTES" and not is_raw:
        made.data = [element.encode() for element in made.data]  # the message's member holds bytes
    answer = await client.infer(InferRequest(f"echo-{datatype}", [made]))
    return "same" if is_same(sent, answer.outputs[0].as_numpy()) else "different"


async def refused(client: InferenceGRPCClient) -> list[str]:
    made = InferInput("a", [1, 2], "FP32")
    made.set_data_from_numpy(ZEROS)
    try:
        return ["OK", str(await client.infer(InferRequest("adder", [made])))]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


asyncio.run(main(sys.argv[1]))

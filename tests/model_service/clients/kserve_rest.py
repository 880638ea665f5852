"""`kserve_rest.py HOST:PORT`: KServe's REST client talks to the server and prints the facts as JSON."""

import asyncio
import json
import sys
from itertools import product
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from samples import NOT_NUMBERS, SAMPLES, is_same

FORMS = ("binary", "json")
ZEROS = np.zeros((1, 2), np.float32)


async def main(url: str) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        facts = {
            "health": await health(client, url),
            "echoes": {datatype: await echoes(client, url, datatype) for datatype in SAMPLES},
            "not_numbers": await not_numbers(client, url),
            "request": await request(client, url),
            "refusals": await refusals(client, url),
        }
    print(json.dumps(facts))


async def health(client: InferenceRESTClient, url: str) -> dict[str, Any]:
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model": await client.is_model_ready(url, "adder"),
        "unknown model": await client.is_model_ready(url, "zzz"),
    }


async def echoes(client: InferenceRESTClient, url: str, datatype: str) -> dict[str, str]:
    """Whether a tensor comes back as it was sent, in each form there and back; httpx asks for compressed answers."""
    told = {}
    for sent, wanted in product(FORMS, FORMS):
        if (datatype, sent) == ("FP16", "json"):
            continue  # which the client itself refuses to send
        asked = InferRequest(
            f"echo-{datatype}",
            [tensor("x", datatype, SAMPLES[datatype], is_binary=sent == "binary")],
            request_outputs=[RequestedOutput("y", {"binary_data": wanted == "binary"})],
        )
        headers: dict[str, str] = {}
        answer = await client.infer(url, asked, f"echo-{datatype}", response_headers=headers)
        same = is_same(SAMPLES[datatype], answer.outputs[0].as_numpy())
        told[f"{sent} to {wanted}"] = f"{'same' if same else 'different'}, {headers.get('content-encoding')}"
    return told


async def not_numbers(client: InferenceRESTClient, url: str) -> bool:
    """Whether NaN and infinity come back exactly, as bytes."""
    asked = InferRequest("echo-FP32", [tensor("x", "FP32", NOT_NUMBERS)], parameters={"binary_data_output": True})
    return is_same(NOT_NUMBERS, (await client.infer(url, asked, "echo-FP32")).outputs[0].as_numpy())


async def request(client: InferenceRESTClient, url: str) -> dict[str, Any]:
    asked = InferRequest(
        "adder",
        [tensor("b", "FP32", ZEROS + 2, is_binary=False), tensor("a", "FP32", ZEROS + 1)],
        request_id="request-7",
        parameters={"colour": "blue"},
    )
    answer = await client.infer(url, asked, "adder")
    return {"id": answer.id, "model": answer.model_name, "sum": answer.get_output_by_name("sum").data}


async def refusals(client: InferenceRESTClient, url: str) -> dict[str, list[Any]]:
    """The status and the words of what is refused, as the client's own exception has them."""
    a, b = tensor("a", "FP32", ZEROS), tensor("b", "FP32", ZEROS)
    asked = {
        "unknown model": ("zzz", InferRequest("zzz", [a, b])),
        "missing input": ("adder", InferRequest("adder", [a])),
        "unknown output": ("adder", InferRequest("adder", [a, b], request_outputs=[RequestedOutput("zzz")])),
        "datatype": ("echo-INT64", InferRequest("echo-INT64", [tensor("x", "FP32", ZEROS)])),
        "shape": ("echo-FP32", InferRequest("echo-FP32", [tensor("x", "FP32", np.zeros((1, 3), np.float32))])),
    }
    told: dict[str, list[Any]] = {}
    for what, (model, data) in asked.items():
        try:
            told[what] = [200, str(await client.infer(url, data, model))]
        except httpx.HTTPStatusError as error:
            told[what] = [error.response.status_code, str(error).partition(", '")[0]]
    return told


def tensor(name: str, datatype: str, array: np.ndarray, *, is_binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


asyncio.run(main(f"http://{sys.argv[1]}"))

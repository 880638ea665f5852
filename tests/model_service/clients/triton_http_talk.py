"""What both of Triton's HTTP clients ask the server, and the facts that they got."""

import inspect
import urllib.request
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from samples import NOT_NUMBERS, ROWS, SAMPLES, is_same
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

FORMS = ("binary", "json")
ENCODINGS = (None, "gzip", "deflate")
WITH_BF16 = SAMPLES | {"BF16": np.resize(np.array([0.5, -1.0, 3e38], ml_dtypes.bfloat16), (ROWS, 2))}
ZEROS = np.zeros((1, 2), np.float32)


class Awaited:
    """A client whose calls can be awaited, whether it is asynchronous itself or not."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            answer = getattr(self._client, name)(*arguments, **options)
            return await answer if inspect.isawaitable(answer) else answer

        return call


async def talk(client: Awaited, url: str) -> dict[str, Any]:
    """All the facts, as JSON has them."""
    return {
        "health": await _health(client),
        "metadata": await client.get_model_metadata("echo-FP32"),
        "server": await client.get_server_metadata(),
        "config": (await client.get_model_config("echo-FP32"))["input"],
        "statistics": [one["name"] for one in (await client.get_inference_statistics("echo-FP32"))["model_stats"]],
        "echoes": {datatype: await _echoes(client, datatype) for datatype in WITH_BF16},
        "not_numbers": await _not_numbers(client),
        "request": await _request(client),
        "classes": await _classes(client),
        "raw": _raw(url),
        "refusals": await _refusals(client),
    }


async def _health(client: Awaited) -> dict[str, bool]:
    version = (await client.get_model_metadata("adder"))["versions"][0]
    return {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model": await client.is_model_ready("adder"),
        "version": await client.is_model_ready("adder", version),
        "unknown model": await client.is_model_ready("zzz"),
        "unknown version": await client.is_model_ready("adder", "zzz"),
    }


async def _echoes(client: Awaited, datatype: str) -> dict[str, str]:
    """Whether a tensor comes back as it was sent, in each form and compression, there and back."""
    told = {}
    for sent, wanted, encoding in product(FORMS, FORMS, ENCODINGS):
        try:
            result = await client.infer(
                f"echo-{datatype}",
                [_input("x", datatype, WITH_BF16[datatype], is_binary=sent == "binary")],
                outputs=[InferRequestedOutput("y", binary_data=wanted == "binary")],
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            same = is_same(WITH_BF16[datatype], result.as_numpy("y"))
            told[f"{sent} to {wanted}, {encoding}"] = "same" if same else "different"
        except InferenceServerException as error:
            told[f"{sent} to {wanted}, {encoding}"] = error.message()
    return told


async def _not_numbers(client: Awaited) -> dict[str, Any]:
    """NaN and infinity: sent as bytes, answered as bytes and as JSON."""
    inputs = [_input("x", "FP32", NOT_NUMBERS)]
    exact = await client.infer("echo-FP32", inputs)
    as_json = await client.infer("echo-FP32", inputs, outputs=[InferRequestedOutput("y", binary_data=False)])
    return {
        "binary": is_same(NOT_NUMBERS, exact.as_numpy("y")),
        "json": as_json.get_output("y")["data"],
        "read from json": np.isnan(as_json.as_numpy("y")).tolist(),
    }


async def _request(client: Awaited) -> dict[str, Any]:
    """Everything that a request can carry beside its tensors."""
    version = (await client.get_model_metadata("adder"))["versions"][0]
    result = await client.infer(
        "adder",
        [_input("b", "FP32", ZEROS + 2, is_binary=False), _input("a", "FP32", ZEROS + 1)],
        model_version=version,
        outputs=[InferRequestedOutput("sum", binary_data=False)],
        request_id="request-7",
        priority=1,
        timeout=30_000_000,
        headers={"X-Request-Id": "trace-7"},
        query_params={"who": "a test"},
        parameters={"colour": "blue", "count": 3, "is_test": True},
    )
    told = result.get_response()
    return {
        "id": told["id"],
        "version": told["model_version"] == version,
        "outputs": [(output["name"], output["data"]) for output in told["outputs"]],
        "all outputs": [
            one["name"] for one in (await client.infer("two", [_input("x", "FP32", ZEROS)])).get_response()["outputs"]
        ],
    }


async def _classes(client: Awaited) -> list[Any]:
    """The highest element of each row, as bytes and in JSON."""
    inputs = [_input("x", "FP32", np.array([[1, 4], [9, 2]], np.float32))]
    forms = [InferRequestedOutput("y", class_count=1, binary_data=is_binary) for is_binary in (True, False)]
    results = [await client.infer("echo-FP32", inputs, outputs=[output]) for output in forms]
    return [result.as_numpy("y").astype(str).tolist() for result in results]


def _raw(url: str) -> list[Any]:
    """A raw binary request, for which the clients have a reader and no writer."""
    asked = urllib.request.Request(
        f"http://{url}/v2/models/echo-FP32/infer", b"\0\0\x80\x3f\0\0\0\x40", {"Inference-Header-Content-Length": "0"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        result = InferenceServerClient.parse_response_body(answer.read(), header_length=length)
    return result.as_numpy("y").tolist()


async def _refusals(client: Awaited) -> dict[str, list[str]]:
    """The status and the words of what is refused, as the client's own exception has them."""
    good = [_input("a", "FP32", ZEROS), _input("b", "FP32", ZEROS)]
    asked = {
        "unknown model": client.infer("zzz", good),
        "unknown version": client.infer("adder", good, model_version="zzz"),
        "missing input": client.infer("adder", good[:1]),
        "unknown input": client.infer("adder", [*good, _input("c", "FP32", ZEROS)]),
        "sequence": client.infer("adder", good, sequence_id=7, sequence_start=True),
        "shared input": client.infer("echo-FP32", [_shared("x")]),
        "unknown output": client.infer("adder", good, outputs=[InferRequestedOutput("zzz")]),
        "datatype": client.infer("echo-FP32", [_input("x", "INT64", ZEROS.astype(np.int64))]),
        "shape": client.infer("echo-FP32", [_input("x", "FP32", np.zeros((1, 3), np.float32))]),
        "rank": client.infer("echo-FP32", [_input("x", "FP32", np.zeros(2, np.float32))]),
        "no rows": client.infer("echo-FP32", [_input("x", "FP32", np.zeros((0, 2), np.float32))]),
        "rows": client.infer("adder", [good[0], _input("b", "FP32", np.zeros((2, 2), np.float32))]),
        "deadline": client.infer("echo-FP32", [_input("x", "FP32", ZEROS)], timeout=1),
        "metadata": client.get_model_metadata("zzz"),
        "load": client.load_model("zzz"),
        "shared memory": client.get_system_shared_memory_status(),
    }
    told = {}
    for what, answer in asked.items():
        try:
            told[what] = ["200", str(await answer)]
        except InferenceServerException as error:
            told[what] = [error.status(), error.message()]
    return told


def _input(name: str, datatype: str, array: np.ndarray, *, is_binary: bool = True) -> InferInput:
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=is_binary)


def _shared(name: str) -> InferInput:
    tensor = InferInput(name, [1, 2], "FP32")
    tensor.set_shared_memory("region", 8)
    return tensor

"""`triton_grpc.py HOST:PORT`: tritonclient.grpc talks to the server and prints the facts as JSON."""

import json
import sys
from typing import Any

import ml_dtypes
import numpy as np
from samples import NOT_NUMBERS, ROWS, SAMPLES, is_same
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

WITH_BF16 = SAMPLES | {"BF16": np.resize(np.array([0.5, -1.0, 3e38], ml_dtypes.bfloat16), (ROWS, 2))}
ZEROS = np.zeros((1, 2), np.float32)


def main(url: str) -> None:
    with InferenceServerClient(url) as client:
        facts = {
            "health": health(client),
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata("echo-FP32", as_json=True),
            "echoes": {datatype: echo(client, datatype, None) for datatype in WITH_BF16},
            "compressed": [echo(client, "FP32", algorithm) for algorithm in ("gzip", "deflate")],
            "not_numbers": is_same(NOT_NUMBERS, echoed(client, NOT_NUMBERS)),
            "request": request(client),
            "classes": classes(client),
            "refusals": refusals(client),
        }
    print(json.dumps(facts))


def health(client: InferenceServerClient) -> dict[str, bool]:
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("adder"),
        "version": client.is_model_ready("adder", version_of(client, "adder")),
    }


def echo(client: InferenceServerClient, datatype: str, algorithm: str | None) -> str:
    sent = WITH_BF16[datatype]
    result = client.infer(f"echo-{datatype}", [tensor("x", datatype, sent)], compression_algorithm=algorithm)
    return "same" if is_same(sent, result.as_numpy("y")) else "different"


def echoed(client: InferenceServerClient, array: np.ndarray) -> np.ndarray:
    return client.infer("echo-FP32", [tensor("x", "FP32", array)]).as_numpy("y")


def request(client: InferenceServerClient) -> dict[str, Any]:
    """Everything that a request can carry beside its tensors."""
    version = version_of(client, "adder")
    result = client.infer(
        "adder",
        [tensor("b", "FP32", ZEROS + 2), tensor("a", "FP32", ZEROS + 1)],
        model_version=version,
        outputs=[InferRequestedOutput("sum")],
        request_id="request-7",
        priority=1,
        timeout=30_000_000,
        client_timeout=30,
        parameters={"colour": "blue", "count": 3, "is_test": True},
    )
    told = result.get_response(as_json=True)
    both = client.infer("two", [tensor("x", "FP32", ZEROS)]).get_response(as_json=True)
    return {
        "id": told["id"],
        "version": told["model_version"] == version,
        "sum": result.as_numpy("sum").tolist(),
        "all outputs": [output["name"] for output in both["outputs"]],
    }


def classes(client: InferenceServerClient) -> list[Any]:
    """The highest element of each row."""
    inputs = [tensor("x", "FP32", np.array([[1, 4], [9, 2]], np.float32))]
    result = client.infer("echo-FP32", inputs, outputs=[InferRequestedOutput("y", class_count=1)])
    return result.as_numpy("y").astype(str).tolist()


def refusals(client: InferenceServerClient) -> dict[str, list[str]]:
    """The status and the words of what is refused, as the client's own exception has them."""
    good = [tensor("a", "FP32", ZEROS), tensor("b", "FP32", ZEROS)]
    asked = {
        "unknown model": lambda: client.infer("zzz", good),
        "unknown version": lambda: client.infer("adder", good, model_version="zzz"),
        "missing input": lambda: client.infer("adder", good[:1]),
        "sequence": lambda: client.infer("adder", good, sequence_id=7, sequence_start=True),
        "shared input": lambda: client.infer("echo-FP32", [shared("x")]),
        "unknown output": lambda: client.infer("adder", good, outputs=[InferRequestedOutput("zzz")]),
        "datatype": lambda: client.infer("echo-FP32", [tensor("x", "INT64", ZEROS.astype(np.int64))]),
        "shape": lambda: client.infer("echo-FP32", [tensor("x", "FP32", np.zeros((1, 3), np.float32))]),
        "no rows": lambda: client.infer("echo-FP32", [tensor("x", "FP32", np.zeros((0, 2), np.float32))]),
        "metadata": lambda: client.get_model_metadata("zzz"),
        "shared memory": lambda: client.get_system_shared_memory_status(),
    }
    told = {}
    for what, ask in asked.items():
        try:
            told[what] = ["OK", str(ask())]
        except InferenceServerException as error:
            told[what] = [error.status(), error.message()]
    return told


def version_of(client: InferenceServerClient, model: str) -> str:
    return client.get_model_metadata(model).versions[0]


def shared(name: str) -> InferInput:
    given = InferInput(name, [1, 2], "FP32")
    given.set_shared_memory("region", 8)
    return given


def tensor(name: str, datatype: str, array: np.ndarray) -> InferInput:
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


main(sys.argv[1])

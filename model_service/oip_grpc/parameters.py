"""The parameters of a ModelInferRequest, of its inputs and of the outputs that it asks for."""

from __future__ import annotations

from typing import Any

from model_service.errors import RequestRefused
from model_service.inference.protocol import NO_SEQUENCES, NO_SHARED_MEMORY, US_PER_S


def refuse_unsupported(request: Any) -> None:
    """Raise RequestRefused(400) for what would change the answer, and is not done here."""
    if "sequence_id" in request.parameters and _value(request.parameters["sequence_id"]):
        raise RequestRefused(400, NO_SEQUENCES)
    for tensor in (*request.inputs, *request.outputs):
        if "shared_memory_region" in tensor.parameters:
            raise RequestRefused(400, f"`{tensor.name}`: {NO_SHARED_MEMORY}")


def timeout_s(request: Any) -> float | None:
    """The parameter `timeout`, in microseconds as Triton's is; 0 is none.

    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_schedule_policy.html
    """
    if "timeout" not in request.parameters:
        return None
    timeout_us = _whole_number(request.parameters["timeout"], "timeout", "microseconds")
    return timeout_us / US_PER_S if timeout_us else None


def classes_of(request: Any) -> dict[str, int]:
    """How many classes are asked for of each output, by the parameter `classification`."""
    return {
        output.name: count
        for output in request.outputs
        if "classification" in output.parameters
        and (count := _whole_number(output.parameters["classification"], "classification", "classes"))
    }


def _whole_number(parameter: Any, name: str, of: str) -> int:
    number = _value(parameter)
    if type(number) is not int or number < 0:
        raise RequestRefused(400, f"the parameter `{name}` is not a whole number of {of} in int64_param")
    return number


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None

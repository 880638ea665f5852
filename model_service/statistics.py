"""What Triton's tools ask of a server: the statistics and the configuration of its models, in Triton's words.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_statistics.html
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_configuration.html
"""

from __future__ import annotations

from typing import Any

from model_service.metrics import ModelStats
from model_service.served import Served
from model_service.tensors import TensorSpec

NS_PER_US = 1000


def statistics(served: list[Served]) -> dict[str, Any]:
    """$stats_model_response for these models."""
    return {"model_stats": [_model_statistics(one.stats) for one in served]}


def configuration(served: Served) -> dict[str, Any]:
    """$model_config_response: as Triton's model configuration, whose shapes leave out the batch's axis."""
    model, plan = served.model, served.loaded.plan
    is_batched = plan.max_batch > 1
    config = {
        "name": model.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": plan.max_batch if is_batched else 0,
        "input": [_tensor(spec, is_batched=is_batched) for spec in model.inputs],
        "output": [_tensor(spec, is_batched=is_batched) for spec in model.outputs],
        "instance_group": [
            {"name": model.name, "kind": "KIND_GPU" if model.device == "cuda" else "KIND_CPU", "count": plan.slots}
        ],
        "default_model_filename": served.loaded.manifest.files[0].name,
    }
    if is_batched:
        config["dynamic_batching"] = {
            "preferred_batch_size": list(plan.buckets),
            "max_queue_delay_microseconds": round(plan.window_s * 1e6),
        }
    return config


def _model_statistics(stats: ModelStats) -> dict[str, Any]:
    totals = stats.totals
    success = totals["nv_inference_request_success"]

    def duration(name: str) -> dict[str, int]:
        return {"count": success, "ns": totals[f"nv_inference_{name}_duration_us"] * NS_PER_US}

    return {
        "name": stats.labels["model"],
        "version": stats.labels["version"],
        "last_inference": stats.last_inference_ms,
        "inference_count": totals["nv_inference_count"],
        "execution_count": totals["nv_inference_exec_count"],
        "inference_stats": {
            "success": duration("request"),
            "fail": {"count": sum(stats.failures.values()), "ns": 0},
            "queue": duration("queue"),
            "compute_input": duration("compute_input"),
            "compute_infer": duration("compute_infer"),
            "compute_output": duration("compute_output"),
        },
        "batch_stats": [],
    }


def _tensor(spec: TensorSpec, *, is_batched: bool) -> dict[str, Any]:
    data_type = "TYPE_STRING" if spec.datatype.name == "BYTES" else f"TYPE_{spec.datatype.name}"
    return {"name": spec.name, "data_type": data_type, "dims": list(spec.shape[1:] if is_batched else spec.shape)}

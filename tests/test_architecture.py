"""Who may import whom: data flows one way, config → stage → AWS calls → result → report."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIPELINE_BASE = {"pipeline.errors", "pipeline.results", "pipeline.words"}
BELOW = PIPELINE_BASE | {"pipeline.judges", "pipeline.waiting", "pipeline.config", "pipeline.aws", "numpy"}
# What several stages share, because no stage imports another.
PARTS = {
    "pipeline.building",
    "pipeline.deployment",
    "pipeline.example_request",
    "pipeline.golden_inputs",
    "pipeline.labelled_table",
    "pipeline.model_images",
    "pipeline.model_labels",
    "pipeline.model_manifest",
    "pipeline.model_repository",
    "pipeline.onnx_model",
    "pipeline.stacks",
    "pipeline.template_checks",
    "pipeline.templates",
}
STAGES = BELOW | PARTS
# Longest prefix wins. The standard library is always allowed.
MAY_IMPORT = {
    "pipeline.errors": set(),
    "pipeline.results": {"pipeline.results"},
    "pipeline.words": set(),
    "pipeline.judges": {"pipeline.judges", "pipeline.results", "pipeline.words", "numpy"},
    "pipeline.waiting": {"pipeline.errors"},
    "pipeline.config": {"pipeline.config", "pipeline.errors", "pydantic", "yaml"},
    "pipeline.aws": PIPELINE_BASE | {"pipeline.aws", "boto3", "botocore"},
    "pipeline.aws.session": PIPELINE_BASE | {"pipeline.config", "boto3", "botocore"},
    **dict.fromkeys(PARTS, BELOW | PARTS),
    "pipeline.building.requirements": PIPELINE_BASE | {"packaging"},
    "pipeline.onnx_model": PIPELINE_BASE | {"numpy", "onnx", "onnxruntime", "google.protobuf"},
    "pipeline.template_checks": {"pipeline.template_checks", "yaml"},
    "pipeline.templates": PIPELINE_BASE | {"pipeline.config", "pipeline.template_checks", "yaml"},
    "pipeline.stages": STAGES,
    "pipeline.stages.init": STAGES | {"jinja2"},
    "pipeline.stages.publish": STAGES | {"onnxruntime"},
    "pipeline.report": PIPELINE_BASE | {"rich", "jinja2"},
    "pipeline.cli": {"pipeline", "click", "pydantic", "yaml"},
    "pipeline.__main__": {"pipeline.cli"},
    "pipeline": set(),
    "model_service": {
        "PIL",
        "fastapi",
        "httptools",
        "model_service",
        "msgspec",
        "numpy",
        "onnxruntime",
        "orjson",
        "prometheus_client",
        "python_multipart",
        "simdjson",
        "starlette",
        "uvicorn",
        "uvloop",
    },
    "model_service.oip_grpc": {"model_service", "google.protobuf", "grpc", "numpy"},
    "model_service.store": {"model_service"},
    "model_service.store.aws": {"model_service", "boto3", "botocore", "urllib3"},
    "rehearsal": {
        "rehearsal",
        "moto",
        "boto3",
        "botocore",
        "aiohttp",
        "yaml",
        "werkzeug",
        "flask",
        "multidict",
        "yarl",
    },
    "loadtests": {"loadtests", "locust", "gevent", "numpy"},
    "loadtests.golden": {"loadtests", "numpy"},
    "loadtests.task": {"boto3"},
    "demo": {"demo", "sklearn", "skl2onnx", "numpy", "onnxruntime", "aiohttp", "boto3", "rich"},
    "demo.page": {"demo.charts", "jinja2"},
    # What is measured runs as a process; nothing of it is imported.
    "benchmarks": {"benchmarks", "numpy", "onnxruntime", "psutil", "rich"},
    # Its process per client is the measured one, so it may import what it measures.
    "benchmarks.download": {"boto3", "model_service.settings", "model_service.store"},
    "benchmarks.models": {"numpy", "onnx"},
    "benchmarks.open_loop": {"httptools", "uvloop"},
    "benchmarks.table": {"benchmarks.report", "matplotlib", "rich"},
    "benchmarks.report": set(),
    # Each peer's file knows its server and nothing of the benchmarks.
    "benchmarks.peers.naive": {"fastapi", "numpy", "onnxruntime", "pydantic", "uvicorn"},
    "benchmarks.peers.litserve_server": {"litserve", "numpy", "onnxruntime"},
    "benchmarks.peers.mlserver_runtime": {"mlserver", "numpy", "onnxruntime"},
    "benchmarks.peers.triton_model": {"numpy", "onnxruntime", "triton_python_backend_utils"},
}


def modules() -> dict[str, Path]:
    packages = ("pipeline", "model_service", "rehearsal", "loadtests", "demo", "benchmarks")
    files = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return {name_of(path): path for path in files}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module a file imports, with `from package import module` read as the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}


def covers(allowed: str, imported: str) -> bool:
    return imported == allowed or imported.startswith(allowed + ".")


def forbidden(module: str, imported: set[str]) -> list[str]:
    rule = max((prefix for prefix in MAY_IMPORT if covers(prefix, module)), key=len)
    return sorted(name for name in imported if not any(covers(allowed, name) for allowed in MAY_IMPORT[rule]))


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=list(modules()))
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    """Each module keeps to the import table."""
    assert [] == forbidden(module, imports(path))


def test_no_stage_imports_another_stage() -> None:
    """Stages meet only in the command line, which passes one's result to the next."""
    found = {
        module: sorted(name for name in imports(path) if name.startswith("pipeline.stages"))
        for module, path in modules().items()
        if module.startswith("pipeline.stages.")
    }

    assert {} == {module: names for module, names in found.items() if names}


def test_the_rule_finds_a_forbidden_import() -> None:
    """The check itself can fail: click in a stage, boto3 outside pipeline.aws, the rehearsal in the pipeline."""
    assert ["click"] == forbidden("pipeline.stages.build", {"click"})
    assert ["boto3"] == forbidden("pipeline.stages.build", {"boto3"})
    assert ["rehearsal.context"] == forbidden("pipeline.cli.rehearse", {"rehearsal.context"})
    assert ["pipeline.config"] == forbidden("model_service.http.app", {"pipeline.config"})
    assert ["model_service.http.app"] == forbidden("benchmarks.field", {"model_service.http.app"})

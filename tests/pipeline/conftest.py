"""Small real things for the pipeline's tests: an ONNX model, a project around it, moto's AWS, a clock that jumps."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from moto import mock_aws
from onnx import TensorProto, helper

from pipeline import config as configuration
from pipeline.aws.session import Aws, connect, connect_unchecked
from pipeline.config import Config
from pipeline.stacks import Stacks
from pipeline.templates import stack_spec
from pipeline.waiting import FakeClock, SystemClock

ACCOUNT, REGION, SERVICE = "123456789012", "eu-west-1", "tiny"
BUCKET = "demo-test-artifacts"
WEIGHTS = np.eye(4, 3, dtype=np.float32) * 4


def tiny_onnx(
    *, ir_version: int = 10, opset: int = 17, weights: np.ndarray = WEIGHTS, rows: str | int = "N"
) -> onnx.ModelProto:
    """A classifier X [N, 4] -> label [N], probabilities [N, 3]: the largest of the first three values wins."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 3]),
        ],
        [onnx.numpy_helper.from_array(weights, "W")],
    )
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)])


def golden_rows(rows: int = 40) -> dict[str, np.ndarray]:
    """Inputs and their true labels for the tiny classifier."""
    values = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    return {"X": values, "expected": values[:, :3].argmax(axis=1)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with onnxship.yaml, model.onnx, golden.npz and a service.py."""
    onnx.save(tiny_onnx(), tmp_path / "model.onnx")
    np.savez(tmp_path / "golden.npz", **golden_rows())
    (tmp_path / "service.py").write_text("def startup():\n    pass\n")
    settings = {
        "project": "demo",
        "environments": {"test": {"account": ACCOUNT, "region": REGION}},
        "edge": {"allow_http": True, "ingress_cidrs": ["127.0.0.1/32"]},
        "services": {
            SERVICE: {
                "image": {"builder": "layers"},
                "model": {"path": "model.onnx", "golden": "golden.npz", "quality": {"at_least": 0.9}},
            }
        },
        "poll_interval_s": 1,
    }
    (tmp_path / "onnxship.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


Configure = Callable[..., Config]


@pytest.fixture
def configure(project: Path) -> Configure:
    """Loads the project's configuration after `changes` of the service, given by dotted path: `model.path`."""

    def load(**changes: Any) -> Config:
        path = project / "onnxship.yaml"
        content = yaml.safe_load(path.read_text())
        for dotted, value in changes.items():
            *parents, last = dotted.replace("__", ".").split(".")
            section = content["services"][SERVICE]
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        path.write_text(yaml.safe_dump(content))
        return configuration.load(path)

    return load


@pytest.fixture
def config(configure: Configure) -> Config:
    return configure()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def aws(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """moto's AWS in this process, reached as the pipeline reaches AWS."""
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield connect_unchecked(config)


@pytest.fixture
def bucket(aws: Aws) -> str:
    """The versioned artifact bucket."""
    location = {"LocationConstraint": REGION}
    aws.call("s3", "create_bucket", Bucket=BUCKET, CreateBucketConfiguration=location)
    aws.call("s3", "put_bucket_versioning", Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return BUCKET


@pytest.fixture
def registry_stack(aws: Aws, bucket: str) -> str:
    """The registry stack's outputs, as `bootstrap` leaves them, with a repository behind them."""
    aws.call("ecr", "create_repository", repositoryName="demo-test")
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {}}},
        "Outputs": {
            "RepositoryName": {"Value": "demo-test"},
            "RepositoryUri": {"Value": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo-test"},
            "RepositoryArn": {"Value": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/demo-test"},
            "ArtifactBucketName": {"Value": bucket},
        },
    }
    name = "demo-test-registry"
    aws.call("cloudformation", "create_stack", StackName=name, TemplateBody=yaml.safe_dump(template))
    return name


@dataclass(frozen=True)
class Cloud:
    """A project of its own in the local AWS of the test session."""

    config: Config
    aws: Aws
    clock: SystemClock
    lines: list[str]

    def seed_findings(self, **seed: Any) -> None:
        """What the next scans of this project's repository will find."""
        repository = f"{self.config.project}-{self.config.environment_name}"
        body = json.dumps({"repositoryName": repository, **seed}).encode()
        request = urllib.request.Request(f"{self.aws.endpoint_url}/_rehearsal/scan-findings", body)
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=10).close()

    def make_registry(self) -> None:
        """The registry stack alone, without the rest of `bootstrap`."""
        Stacks(self.aws, self.clock, 0.05).bring_up(stack_spec(self.config, "registry", {}))


@pytest.fixture(scope="session")
def rehearsal_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local AWS as a process of its own, ended with the session."""
    directory = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, "-m", "rehearsal", "up", "--state-dir", str(directory)]
    words = [*command, "--account", ACCOUNT, "--region", REGION]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    state = directory / "rehearsal.json"
    while not state.exists():
        assert process.poll() is None, "the rehearsal did not start"
        time.sleep(0.05)
    yield json.loads(state.read_text())["endpoint"]
    process.terminate()
    process.wait(30)


@pytest.fixture
def cloud(config: Config, rehearsal_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The project's configuration under a name of its own, and the local AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", rehearsal_endpoint)
    edge = config.edge.model_copy(update={"production_port": free_port(), "test_port": free_port()})
    own = {"project": f"p{uuid.uuid4().hex[:8]}", "edge": edge, "poll_interval_s": 0.1}
    unique = config.model_copy(update=own)
    return Cloud(unique, connect(unique), SystemClock(), [])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""`onnxship rehearse --engine`: which builder goes with which, and what is refused before anything starts."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pipeline import config
from pipeline.cli import cli, complete, local_aws
from pipeline.errors import UsageError

KEYS = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-a1b2c3"
SECURED = f"""
project: digits
environments: {{production: {{account: "123456789012", region: eu-west-1}}}}
edge: {{certificate_arn: "arn:aws:acm:eu-west-1:123456789012:certificate/1", domain: digits.example.com}}
services:
  digits:
    model: {{path: model.onnx, golden: golden.npz}}
    environment: {{API_KEYS_SECRET_ARN: "{KEYS}"}}
"""


@pytest.mark.parametrize(("engine", "builder"), [("process", "layers"), ("docker", "docker")])
def test_an_engine_brings_its_builder(tmp_path: Path, engine: str, builder: str) -> None:
    """A process needs no base image; a container needs the Dockerfile's."""
    local_aws._write_overlay(tmp_path, [1, 2], engine)

    overlay = yaml.safe_load((tmp_path / "overlay.yaml").read_text())
    assert builder == overlay["services"]["*"]["image"]["builder"]


def test_what_has_a_certificate_can_be_rehearsed(tmp_path: Path) -> None:
    """The local load balancer speaks plain HTTP: the overlay takes certificate and domain away, and API keys, which go
    over TLS alone, are let pass on this machine."""
    local_aws._write_overlay(tmp_path, [1, 2], "process")
    path = tmp_path / "onnxship.yaml"
    path.write_text(SECURED)

    secured, rehearsed = config.load(path), config.load(path, overlay=tmp_path / "overlay.yaml")

    assert ("https", 443) == (secured.edge.url_scheme, secured.edge.listens_on)
    assert ("http", 1, None) == (rehearsed.edge.url_scheme, rehearsed.edge.listens_on, rehearsed.edge.domain)
    assert KEYS == rehearsed.services["digits"].api_keys_secret_arn


def test_a_running_local_aws_keeps_its_engine() -> None:
    """Asked for another, it says so; asked for none or its own, it goes on."""
    for engine in (None, "process"):
        local_aws.refuse_another_engine({"engine": "process"}, engine)
    with pytest.raises(UsageError, match="runs its tasks with engine process, not docker"):
        local_aws.refuse_another_engine({"engine": "process"}, "docker")


def test_engine_docker_wants_docker_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `docker` on PATH: refused with the way out, and no local AWS is begun."""
    complete(cli)
    (tmp_path / "onnxship.yaml").write_text(
        "project: p\nenvironments: {e: {account: '111122223333', region: eu-west-1}}\n"
        "edge: {ingress_cidrs: [0.0.0.0/0], allow_http: true}\n"
        "services: {s: {model: {path: m.onnx, golden: g.npz}}}\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["rehearse", "up", "--engine", "docker", "--config", str(tmp_path / "onnxship.yaml")]

    refused = CliRunner().invoke(cli, words).exception

    assert "The image is built with Docker, which is not installed." in str(refused)
    assert not (tmp_path / ".onnxship").exists()

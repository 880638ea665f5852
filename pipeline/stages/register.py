"""Registers the task definition of a release: image by digest, model by VersionId and sha256.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.aws.ecs import RELEASE_TAG
from pipeline.aws.secrets import secret_value
from pipeline.aws.session import Aws
from pipeline.aws.tasks import register_once
from pipeline.config import Config, Service
from pipeline.results import Built, Published, TaskDefinition

USER = "10001:10001"
STOP_TIMEOUT_S = 60
HEALTH_COMMAND = ["CMD", "python", "-m", "model_service.health"]
START_PERIOD_S = 60
DEVICES = {"cpu": "cpu", "gpu": "cuda"}


def register(
    config: Config, aws: Aws, *, service: str, release_id: str, built: Built, published: Published,
    outputs: Mapping[str, str], earlier_arn: str = "",
) -> TaskDefinition:  # fmt: skip
    """A revision for this release: a new one, or one that says exactly the same, the family's latest or `earlier_arn`.

    `earlier_arn` was registered by an earlier run of this release; a deployment that runs is known by it.
    """
    asks_for_keys = config.services[service].api_keys_secret_arn
    gate_key = secret_value(aws, outputs["GateSecretArn"]) if asks_for_keys else ""
    request = task_definition_request(
        config, service=service, release_id=release_id, built=built, published=published, outputs=outputs,
        gate_key=gate_key,
    )  # fmt: skip
    registered = register_once(aws, request, earlier_arn=earlier_arn)
    return TaskDefinition(registered["taskDefinitionArn"], registered["family"], registered["revision"])


def task_definition_request(
    config: Config, *, service: str, release_id: str, built: Built, published: Published, outputs: Mapping[str, str],
    gate_key: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The RegisterTaskDefinition request; `outputs` are those of the runtime stack.

    With `gate_key`, the value of the gate's header, a server that asks for API keys lets the gates in; only its hash
    stands in the request.
    """
    settings = config.services[service]
    return {
        "family": f"{config.project}-{config.environment_name}-{service}",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(settings.compute.cpu),
        "memory": str(settings.compute.memory_mib),
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "executionRoleArn": outputs["ExecutionRoleArn"],
        "taskRoleArn": outputs["TaskRoleArn"],
        "volumes": [{"name": "models"}, {"name": "tmp"}],
        "containerDefinitions": [_container(config, settings, release_id, built, published, outputs, gate_key)],
        "tags": [
            {"key": RELEASE_TAG, "value": release_id},
            {"key": "onnxship:git-sha", "value": built.git_sha},
            {"key": "onnxship:service", "value": service},
        ],
    }


def _container(
    config: Config, settings: Service, release_id: str, built: Built, published: Published, outputs: Mapping[str, str],
    gate_key: str,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": "model",
        "image": built.image,
        "essential": True,
        "user": USER,
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True},
        "stopTimeout": STOP_TIMEOUT_S,
        "portMappings": [
            {"containerPort": 8080, "name": "http", "protocol": "tcp"},
            {"containerPort": 8081, "name": "admin", "protocol": "tcp"},
        ],
        "mountPoints": [
            {"sourceVolume": "models", "containerPath": "/models", "readOnly": False},
            {"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False},  # noqa: S108 - a path in the container
        ],
        "healthCheck": {
            "command": HEALTH_COMMAND,
            "interval": 10,
            "timeout": 5,
            "retries": 3,
            "startPeriod": START_PERIOD_S,
        },
        "environment": _environment(settings, release_id, built, published, config.environment.region, gate_key),
        "secrets": [{"name": name, "valueFrom": arn} for name, arn in sorted(settings.secrets.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": outputs["LogGroupName"],
                "awslogs-region": config.environment.region,
                "awslogs-stream-prefix": "model",
            },
        },
    }


def _environment(
    settings: Service, release_id: str, built: Built, published: Published, region: str, gate_key: str
) -> list[dict[str, str]]:  # fmt: skip
    """The pipeline's own names stand above the user's: they say what the release is.

    The region is said, because without it S3 is asked at its global address, which no VPC endpoint serves.
    """
    values = {
        **settings.environment,
        "AWS_REGION": region,
        "PORT": "8080",
        "ADMIN_PORT": "8081",
        "MODEL_DIR": "/models",
        "MODEL_MANIFEST_URI": f"s3://{published.bucket}/{published.manifest_key}",
        "MODEL_MANIFEST_VERSION_ID": published.manifest_version_id,
        "MODEL_MANIFEST_SHA256": published.manifest_sha256,
        "RELEASE_ID": release_id,
        "DEVICE": DEVICES[built.target],
    }
    if gate_key:
        values["GATE_KEY_SHA256"] = hashlib.sha256(gate_key.encode()).hexdigest()
    return [{"name": name, "value": value} for name, value in sorted(values.items())]

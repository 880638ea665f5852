"""The task definition of a release, exactly, and registered once."""

import hashlib
from dataclasses import replace

import pytest

from pipeline.aws.tasks import contains
from pipeline.results import Built, Published
from pipeline.stages.register import register, task_definition_request

OUTPUTS = {
    "TaskRoleArn": "arn:aws:iam::123456789012:role/task",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/execution",
    "LogGroupName": "/demo/test/tiny",
}
BUILT = Built("registry/demo-test", "t", "sha256:" + "a" * 64, "c" * 12, "0123456789", "cpu", "layers", False)
PUBLISHED = Published(
    "bucket", "models/tiny/ff/manifest.json", "ver1", "ff" * 32, "ee" * 32, 1, 10, 17, (), (), None, False
)


def request(config, release_id: str = "v2", built: Built = BUILT):
    return task_definition_request(
        config, service="tiny", release_id=release_id, built=built, published=PUBLISHED, outputs=OUTPUTS
    )  # fmt: skip


def test_the_request_is_exactly_this(configure):
    """Image by digest, model by VersionId and sha256, read-only root, no more than is needed."""
    config = configure(environment={"LOG_LEVEL": "debug", "PORT": "1"}, secrets={"TOKEN": "arn:aws:secret"})

    assert request(config) == {
        "family": "demo-test-tiny",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "1024",
        "memory": "2048",
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
        "taskRoleArn": "arn:aws:iam::123456789012:role/task",
        "volumes": [{"name": "models"}, {"name": "tmp"}],
        "containerDefinitions": [
            {
                "name": "model",
                "image": "registry/demo-test@sha256:" + "a" * 64,
                "essential": True,
                "user": "10001:10001",
                "readonlyRootFilesystem": True,
                "linuxParameters": {"initProcessEnabled": True},
                "stopTimeout": 60,
                "portMappings": [
                    {"containerPort": 8080, "name": "http", "protocol": "tcp"},
                    {"containerPort": 8081, "name": "admin", "protocol": "tcp"},
                ],
                "mountPoints": [
                    {"sourceVolume": "models", "containerPath": "/models", "readOnly": False},
                    {"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False},
                ],
                "healthCheck": {
                    "command": ["CMD", "python", "-m", "model_service.health"],
                    "interval": 10,
                    "timeout": 5,
                    "retries": 3,
                    "startPeriod": 60,
                },
                "environment": [
                    {"name": "ADMIN_PORT", "value": "8081"},
                    {"name": "AWS_REGION", "value": "eu-west-1"},
                    {"name": "DEVICE", "value": "cpu"},
                    {"name": "LOG_LEVEL", "value": "debug"},
                    {"name": "MODEL_DIR", "value": "/models"},
                    {"name": "MODEL_MANIFEST_SHA256", "value": "ff" * 32},
                    {"name": "MODEL_MANIFEST_URI", "value": "s3://bucket/models/tiny/ff/manifest.json"},
                    {"name": "MODEL_MANIFEST_VERSION_ID", "value": "ver1"},
                    {"name": "PORT", "value": "8080"},
                    {"name": "RELEASE_ID", "value": "v2"},
                ],
                "secrets": [{"name": "TOKEN", "valueFrom": "arn:aws:secret"}],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": "/demo/test/tiny",
                        "awslogs-region": "eu-west-1",
                        "awslogs-stream-prefix": "model",
                    },
                },
            }
        ],
        "tags": [
            {"key": "onnxship:release", "value": "v2"},
            {"key": "onnxship:git-sha", "value": "0123456789"},
            {"key": "onnxship:service", "value": "tiny"},
        ],
    }


def test_an_image_for_the_gpu_is_told_to_use_it(config):
    """The server then refuses to start where ONNX Runtime would run the model on the CPU."""
    [container] = request(config, built=replace(BUILT, target="gpu"))["containerDefinitions"]

    assert {"name": "DEVICE", "value": "cuda"} in container["environment"]


def test_gates_have_a_key_where_keys_are_asked_for(config, aws):
    """The server gets the hash of the gate's secret, never the secret; without API keys it gets neither."""
    secret = aws.call("secretsmanager", "create_secret", Name="GateSecret-x", SecretString="sesame")["ARN"]
    tiny = config.services["tiny"].model_copy(update={"environment": {"API_KEYS_SECRET_ARN": f"{secret}-keys"}})
    guarded = config.model_copy(update={"services": {"tiny": tiny}})

    def environment(settings):
        registered = register(
            settings, aws, service="tiny", release_id="v1", built=BUILT, published=PUBLISHED,
            outputs=OUTPUTS | {"GateSecretArn": secret},
        )  # fmt: skip
        described = aws.call("ecs", "describe_task_definition", taskDefinition=registered.arn)["taskDefinition"]
        return {item["name"]: item["value"] for item in described["containerDefinitions"][0]["environment"]}

    assert hashlib.sha256(b"sesame").hexdigest() == environment(guarded)["GATE_KEY_SHA256"]
    assert "GATE_KEY_SHA256" not in environment(config)


def registered(config, aws, release_id, **more):
    return register(
        config, aws, service="tiny", release_id=release_id, built=BUILT, published=PUBLISHED, outputs=OUTPUTS, **more
    )  # fmt: skip


def test_a_release_that_is_taken_up_keeps_its_revision_though_others_came_after(config, aws):
    """Its deployment is known by that revision; one that says something else is not taken for it."""
    first, other = registered(config, aws, "v1"), registered(config, aws, "v2")

    assert registered(config, aws, "v1", earlier_arn=first.arn) == first
    assert registered(config, aws, "v3", earlier_arn=other.arn).revision == 3


def test_the_same_release_is_registered_once_and_another_one_anew(config, aws):
    """A second run of the same release finds its revision; another release id makes the next one."""

    first, again, other = (registered(config, aws, name) for name in ("v1", "v1", "v2"))

    assert (first.family, first.revision) == ("demo-test-tiny", 1)
    assert again == first
    assert other.revision == 2
    assert other.arn.endswith("task-definition/demo-test-tiny:2")


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "default": 0}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": [{"n": "x", "hostPort": 1}, {"n": "y"}]}, {"a": [{"n": "y"}, {"n": "x"}]}, True),
        ({"a": [{"n": "x"}, {"n": "y"}]}, {"a": [{"n": "x"}]}, False),
        ({}, {"a": 1}, False),
    ],
)
def test_what_counts_as_the_same_revision(found, wanted, expected):
    """ECS's defaults do not matter, nor the order of lists; every value asked for does, and so does one too many."""
    assert contains(found, wanted) is expected

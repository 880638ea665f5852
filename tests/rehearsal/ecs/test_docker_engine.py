"""Tasks as containers of a real Docker: what Fargate gives them is what they have, and nothing of them is left.

Skipped where no Docker answers or the base image cannot be had; ONNXSHIP_TEST_BASE names one that Docker has.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rehearsal.ecs.engines.docker_api import find_daemon
from rehearsal.unusable import Unusable

BASE = os.environ.get("ONNXSHIP_TEST_BASE", "python:3.11-slim-bookworm")
PATIENCE_S = 90.0
DOCKERFILE = f"""
FROM {BASE}
RUN mkdir /models && touch /models/of-the-image && chown -R 10001:10001 /models
COPY probe.py /app/
WORKDIR /app
USER 10001:10001
CMD ["python3", "probe.py"]
"""
PROBE = """
import json, os, pathlib, sys, time, urllib.error, urllib.request
mode = os.environ.get("MODE", "look")
if mode == "exit":
    sys.exit(3)
if mode == "hoard":
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))
if mode == "sleep":
    print("up", flush=True)
    time.sleep(600)
def writes(path):
    try:
        pathlib.Path(path, "x").write_text("x")
    except OSError as error:
        return error.strerror
    return "written"
def status(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
words = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
limits = [pathlib.Path("/sys/fs/cgroup", one) for one in ("memory.max", "memory/memory.limit_in_bytes")]
endpoint = os.environ["AWS_ENDPOINT_URL"]
print(json.dumps({
    "user": os.getuid(),
    "models": writes("/models"), "in_models": sorted(os.listdir("/models")), "app": writes("/app"),
    "no_new_privileges": words["NoNewPrivs"].strip(), "capabilities": int(words["CapBnd"], 16),
    "memory": next(int(one.read_text()) for one in limits if one.exists()),
    "first_process": pathlib.Path("/proc/1/cmdline").read_text().split(chr(0))[0],
    "greeting": os.environ["GREETING"], "port": os.environ["PORT"],
    "s3": status(endpoint + "/no-such-bucket"), "own_page": status(endpoint + "/_rehearsal/report"),
    "listener": status(os.environ["LISTENER"]),
}), flush=True)
"""
pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(300)]


def docker(*words: str, **environment: str) -> str:
    done = subprocess.run(
        ["docker", *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def labelled(directory: Path) -> list[str]:
    """Containers, volumes and networks of a rehearsal."""
    of = ("--quiet", "--filter", f"label=onnxship.rehearsal={directory}")
    listed = [docker("ps", "--all", *of), docker("volume", "ls", *of), docker("network", "ls", *of)]
    return "\n".join(listed).split()


def until(happened: Callable[[], Any], what: str = "it did not happen") -> Any:
    """What `happened` gives once it is true; the patience bounds the test and promises nothing."""
    end = time.monotonic() + PATIENCE_S
    while not (given := happened()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return given


@pytest.fixture(scope="module", autouse=True)
def daemon() -> None:
    """A Docker that answers and has the base."""
    try:
        find_daemon()
    except Unusable as unusable:
        pytest.skip(f"{unusable.what} {unusable.remedy}")
    for words in (("image", "inspect", BASE), ("pull", "--quiet", BASE)):
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0:
            return
    pytest.skip(f"Docker has no {BASE} and cannot pull it; name another in ONNXSHIP_TEST_BASE")


@pytest.fixture(scope="module")
def here(daemon: None, tmp_path_factory: pytest.TempPathFactory, supervised: SimpleNamespace) -> Iterator[Any]:
    """A rehearsal with engine docker, a cluster, a listener, and two images: one declares /models, one does not."""
    state_dir = tmp_path_factory.mktemp("docker")
    process = supervised.start(state_dir, "--engine", "docker")
    try:
        up = supervised.await_up(process, state_dir)
        yield estate(up, supervised, tmp_path_factory.mktemp("images"), state_dir)
    finally:
        process.terminate()
        process.wait(60)
    assert labelled(state_dir) == []
    assert [] == docker("image", "ls", "--quiet", "--filter", f"reference={up['registry']}/*").split()


def estate(up: dict[str, Any], supervised: SimpleNamespace, directory: Path, state_dir: Path) -> SimpleNamespace:
    clients = {name: supervised.client_of(up["endpoint"], name) for name in ("ecs", "ec2", "ecr", "elbv2", "logs")}
    vpc = clients["ec2"].create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    zones = [("10.7.0.0/24", "eu-west-1a"), ("10.7.1.0/24", "eu-west-1b")]
    subnets = [
        clients["ec2"].create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for cidr, zone in zones
    ]
    clients["ecs"].create_cluster(clusterName="c")
    clients["logs"].create_log_group(logGroupName="/c")
    made = clients["elbv2"].create_load_balancer(Name="balancer", Subnets=subnets)["LoadBalancers"][0]
    teapot = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418"}}
    port = next(port for port in range(45000, 46000) if is_free(port))
    clients["elbv2"].create_listener(
        LoadBalancerArn=made["LoadBalancerArn"], Protocol="HTTP", Port=port, DefaultActions=[teapot]
    )
    network = {"awsvpcConfiguration": {"subnets": subnets}}
    here = SimpleNamespace(**clients, up=up, network=network, listener=f"http://127.0.0.1:{port}", state_dir=state_dir)
    clients["ecr"].create_repository(repositoryName="probes")
    here.declaring = pushed(here, directory / "declaring", DOCKERFILE + 'VOLUME ["/models"]\n')
    here.plain = pushed(here, directory / "plain", DOCKERFILE)
    return here


def is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pushed(here: SimpleNamespace, directory: Path, dockerfile: str) -> str:
    """Build and push as a user would, with the login that ECR gives; the image's reference."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "probe.py").write_text(PROBE)
    token = here.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    (directory / "config.json").write_text(json.dumps({"auths": {here.up["registry"]: {"auth": token}}}))
    reference = f"{here.up['registry']}/probes:{directory.name}"
    docker("build", "--quiet", "--tag", reference, str(directory))
    docker("push", "--quiet", reference, DOCKER_CONFIG=str(directory))
    return reference


def begin(here: SimpleNamespace, image: str, more: dict[str, Any] | None = None, **environment: str) -> str:
    """Run one task of the probe: its ARN."""
    told = {"PORT": "8080", "LISTENER": here.listener, "GREETING": "two\nlines", **environment}
    container = {
        "name": "probe",
        "image": image,
        "user": "10001:10001",
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"], "add": []}},
        "portMappings": [{"containerPort": 8080}],
        "mountPoints": [{"sourceVolume": "models", "containerPath": "/models"}],
        "stopTimeout": 5,
        "environment": [{"name": name, "value": value} for name, value in told.items()],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": "/c", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "p"},
        },
        **(more or {}),
    }
    definition = here.ecs.register_task_definition(
        family="probe",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        volumes=[{"name": "models"}],
        containerDefinitions=[container],
    )["taskDefinition"]["taskDefinitionArn"]
    run = here.ecs.run_task(cluster="c", taskDefinition=definition, networkConfiguration=here.network)
    return str(run["tasks"][0]["taskArn"])


def describe(here: SimpleNamespace, task: str) -> dict[str, Any]:
    return dict(here.ecs.describe_tasks(cluster="c", tasks=[task])["tasks"][0])


def ended(here: SimpleNamespace, task: str) -> dict[str, Any]:
    """The task once it has stopped."""
    until(lambda: describe(here, task)["lastStatus"] == "STOPPED", "the task did not stop")
    return describe(here, task)


def seen(here: SimpleNamespace, image: str) -> dict[str, Any]:
    """What the probe saw, from its log."""
    task = begin(here, image)
    assert ended(here, task)["containers"][0]["exitCode"] == 0, lines(here, task)
    return dict(json.loads(lines(here, task)[-1]))


def lines(here: SimpleNamespace, task: str) -> list[str]:
    stream = f"p/probe/{task.rpartition('/')[2]}"
    events = here.logs.get_log_events(logGroupName="/c", logStreamName=stream)["events"]
    return [event["message"] for event in events]


def test_a_container_has_what_fargate_gives_and_no_more(here: SimpleNamespace) -> None:
    """Numeric user, read-only root, memory, capabilities, an init process; environment and endpoint reach it."""
    found = seen(here, here.declaring)

    assert (10001, "Read-only file system") == (found["user"], found["app"])
    assert (512 << 20, 0, "1") == (found["memory"], found["capabilities"], found["no_new_privileges"])
    assert "init" in found["first_process"]
    assert ("two\nlines", "8080") == (found["greeting"], found["port"])


def test_a_container_reaches_aws_and_the_listeners_and_cannot_steer_the_rehearsal(here: SimpleNamespace) -> None:
    """By the addresses that it was given; S3 answers 404 for a bucket that is not there."""
    found = seen(here, here.declaring)

    assert {"s3": 404, "own_page": 403, "listener": 418} == {key: found[key] for key in ("s3", "own_page", "listener")}


def test_a_volume_belongs_to_root_unless_the_image_declares_it(here: SimpleNamespace) -> None:
    """Declared, it has the image's content and owner; not declared, it is empty and not for a numbered user."""
    declared, undeclared = seen(here, here.declaring), seen(here, here.plain)

    assert ("written", ["of-the-image", "x"]) == (declared["models"], declared["in_models"])
    assert ("Permission denied", []) == (undeclared["models"], undeclared["in_models"])


def test_too_much_memory_is_named(here: SimpleNamespace) -> None:
    """137, and ECS's own words for it."""
    container = ended(here, begin(here, here.plain, MODE="hoard"))["containers"][0]

    assert (137, "OutOfMemoryError: Container killed due to memory usage") == (
        container["exitCode"],
        container["reason"],
    )


def test_an_exit_code_is_the_containers_own(here: SimpleNamespace) -> None:
    """And nothing is said of memory."""
    container = ended(here, begin(here, here.plain, MODE="exit"))["containers"][0]

    assert (3, None) == (container["exitCode"], container.get("reason"))


def test_what_docker_cannot_start_says_why(here: SimpleNamespace) -> None:
    """A command that the image lacks, started without an init process, which would be what starts it."""
    told = ended(here, begin(here, here.plain, {"command": ["no-such-program"], "linuxParameters": {}}))

    assert "TaskFailedToStart" == told["stopCode"]
    assert "CannotStartContainerError" in told["stoppedReason"]
    assert "no-such-program" in told["stoppedReason"]


def test_health_is_asked_inside_the_container(here: SimpleNamespace) -> None:
    """The definition's command, with the container's own files."""
    good = {"healthCheck": {"command": ["CMD", "test", "-f", "/app/probe.py"], "interval": 5}}
    task = begin(here, here.plain, good, MODE="sleep")

    until(lambda: describe(here, task)["healthStatus"] == "HEALTHY", "it did not become healthy")
    here.ecs.stop_task(cluster="c", task=task)

    assert 143 == ended(here, task)["containers"][0]["exitCode"]


def test_the_image_is_pulled_by_digest(here: SimpleNamespace) -> None:
    """What Docker runs is named by the digest that ECR has, whatever the tag says by then."""
    task = begin(here, here.plain, MODE="sleep")
    until(lambda: describe(here, task)["lastStatus"] == "RUNNING", "it does not run")
    digest = here.ecr.describe_images(repositoryName="probes", imageIds=[{"imageTag": "plain"}])["imageDetails"][0]
    image = docker("inspect", "--format", "{{.Config.Image}}", f"onnxship-{task.rpartition('/')[2]}-probe")
    here.ecs.stop_task(cluster="c", task=task)
    ended(here, task)

    assert f"{here.up['registry']}/probes@{digest['imageDigest']}" == image


@pytest.fixture
def begin_rehearsal(supervised: SimpleNamespace) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts rehearsals that end with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin_rehearsal(*words: Any) -> subprocess.Popen[str]:
        begun.append(supervised.start(*words))
        return begun[-1]

    yield begin_rehearsal
    for process in begun:
        process.terminate()
        process.wait(60)


def second_rehearsal(
    begin_rehearsal: Callable[..., Any], supervised: SimpleNamespace, tmp_path: Path
) -> tuple[subprocess.Popen[str], list[str]]:
    """A rehearsal beside the first with one task that sleeps; and what of it is in Docker."""
    process = begin_rehearsal(tmp_path / "state", "--engine", "docker")
    other = estate(supervised.await_up(process, tmp_path / "state"), supervised, tmp_path, tmp_path / "state")
    task = begin(other, other.plain, MODE="sleep")
    until(lambda: describe(other, task)["lastStatus"] == "RUNNING", "it does not run")
    return process, labelled(tmp_path / "state")


def test_a_killed_rehearsal_leaves_nothing_and_the_one_beside_it_is_untouched(
    here: SimpleNamespace, begin_rehearsal: Callable[..., Any], supervised: SimpleNamespace, tmp_path: Path
) -> None:
    """kill -9 of a supervisor: its containers, volumes and network are gone within seconds, others' stay."""
    beside = begin(here, here.plain, MODE="sleep")
    until(lambda: describe(here, beside)["lastStatus"] == "RUNNING", "it does not run")
    process, left = second_rehearsal(begin_rehearsal, supervised, tmp_path)
    assert len(left) == 3
    process.kill()
    process.wait()

    until(lambda: labelled(tmp_path / "state") == [], "something is left in Docker")
    assert describe(here, beside)["lastStatus"] == "RUNNING"
    here.ecs.stop_task(cluster="c", task=beside)
    ended(here, beside)


def test_the_next_start_clears_what_even_the_guardian_could_not(
    begin_rehearsal: Callable[..., Any], supervised: SimpleNamespace, tmp_path: Path
) -> None:
    """Supervisor and guardian killed at once: the next rehearsal of that directory removes what they left."""
    process = begin_rehearsal(tmp_path, "--engine", "docker")
    supervised.await_up(process, tmp_path)
    os.kill(guardian_of(process.pid), signal.SIGKILL)
    process.kill()
    process.wait()
    (network,) = labelled(tmp_path)
    label = ("--label", f"onnxship.rehearsal={tmp_path}")
    docker("run", "--detach", "--rm", *label, "--network", network, BASE, "sleep", "600")
    assert 2 == len(labelled(tmp_path))

    supervised.await_up(begin_rehearsal(tmp_path), tmp_path, stale_pid=process.pid)

    assert labelled(tmp_path) == []


def guardian_of(pid: int) -> int:
    """The process that would clear Docker after the supervisor's death."""
    words = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)]
    children = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return next(int(line.split()[0]) for line in children if "docker_guardian.py" in line)

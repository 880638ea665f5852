"""Engine `docker`: a container is a container, made from the image that was pushed, as close to Fargate as Docker is.

Whatever is made in Docker carries two labels: the rehearsal's directory, and the process that supervises it. By the
second its guardian finds what to remove when the supervisor ends, by the first the next start does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from typing import Any

import aiohttp

from rehearsal import processes
from rehearsal.context import LOOPBACK, Context
from rehearsal.ecs import containers as made
from rehearsal.ecs.containers import CannotStart
from rehearsal.ecs.engines import docker_guardian
from rehearsal.ecs.engines.contract import OUT_OF_MEMORY, Exit, Order
from rehearsal.ecs.engines.docker_api import OTHER_ENGINE, Docker, DockerRefused, find_daemon
from rehearsal.ecs.engines.docker_request import create_request, volume_name
from rehearsal.ecs.engines.leftovers import DIRECTORY_LABEL, forget_docker, note_docker
from rehearsal.ecs.engines.relay import Relay
from rehearsal.ecs.images import CannotPull, Image, Images, Reference
from rehearsal.ecs.state import Task
from rehearsal.unusable import Unusable

log = logging.getLogger(__name__)
SUPERVISOR_LABEL = "onnxship.supervisor"
KILLED = 137
GUARDIAN_S = 15.0


class DockerContainer:
    """One container that was started."""

    def __init__(self, docker: Docker, container_id: str, stop_signal: str) -> None:
        self._docker, self._id, self._stop_signal = docker, container_id, stop_signal
        self.output = asyncio.StreamReader()
        self._work = {asyncio.create_task(docker.follow(container_id, self.output))}
        self._is_over = False

    async def wait(self) -> Exit:
        """See RunningContainer."""
        try:
            await self._docker.ask("POST", f"/containers/{self._id}/wait")
            state = (await self._docker.ask("GET", f"/containers/{self._id}/json"))["State"]
        except (aiohttp.ClientError, DockerRefused) as error:
            return Exit(KILLED, f"CannotInspectContainerError: {error}")
        finally:
            self._is_over = True
        ran_out = state["OOMKilled"] and state["ExitCode"] == KILLED
        return Exit(state["ExitCode"], OUT_OF_MEMORY if ran_out else None)

    def terminate(self) -> None:
        """The image's STOPSIGNAL, or SIGTERM: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html"""
        self._signal(self._stop_signal)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        if not self._is_over:
            sending = asyncio.create_task(self._send(name))
            self._work.add(sending)  # the loop itself keeps no reference
            sending.add_done_callback(self._work.discard)

    async def _send(self, name: str) -> None:
        try:
            await self._docker.ask("POST", f"/containers/{self._id}/kill", query={"signal": name})
        except DockerRefused as refusal:
            if refusal.status not in (404, 409):  # it has ended meanwhile
                raise

    async def passes(self, command: list[str], timeout_s: float) -> bool:
        """See RunningContainer. Docker cannot end a command that hangs: it ends with its container."""
        words = ["/bin/sh", "-c", *command[1:]] if command[0] == "CMD-SHELL" else command[command[0] == "CMD" :]
        try:
            return await asyncio.wait_for(self._run(words), timeout_s) == 0
        except (TimeoutError, DockerRefused, aiohttp.ClientError):
            return False

    async def _run(self, words: list[str]) -> int | None:
        body = {"Cmd": words, "AttachStdout": True, "AttachStderr": True}
        made_id = (await self._docker.ask("POST", f"/containers/{self._id}/exec", body))["Id"]
        await self._docker.ask("POST", f"/exec/{made_id}/start", {"Detach": False})
        code: int | None = (await self._docker.ask("GET", f"/exec/{made_id}/json"))["ExitCode"]
        return code


class DockerSandbox:
    """A task's containers: one network namespace, volumes of their own."""

    def __init__(self, engine: DockerEngine, task: Task) -> None:
        self._engine, self._docker, self._task = engine, engine.docker, task
        self._ids: list[str] = []

    async def start(self, order: Order) -> DockerContainer:
        """See Sandbox. All containers of a task share one network, as in awsvpc mode: the first one's."""
        network = f"container:{self._ids[0]}" if self._ids else self._engine.network
        environment = await self._environment(order)
        image = self._engine.reference(self._task, order)
        body = create_request(self._task, order, image, environment, network, self._engine.labels)
        name = f"onnxship-{self._task.id}-{order.container['name']}"
        container_id = (await self._asked("CannotCreateContainerError", "/containers/create", body, {"name": name}))[
            "Id"
        ]
        self._ids.append(container_id)
        await self._asked("CannotStartContainerError", f"/containers/{container_id}/start")
        stop_signal = (order.image.config.get("config") or {}).get("StopSignal") or "SIGTERM"
        return DockerContainer(self._docker, container_id, stop_signal)

    async def _asked(self, error: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
        try:
            return await self._docker.ask("POST", path, body, query)
        except (DockerRefused, aiohttp.ClientError) as refusal:
            raise CannotStart(f"{error}: {refusal}") from refusal

    async def _environment(self, order: Order) -> dict[str, str]:
        given: dict[str, str] = {}
        for source in (order.container.get("environment") or [], order.override.get("environment") or []):
            given |= {entry["name"]: entry["value"] for entry in source}
        context = self._engine.context
        given |= order.secrets | made.aws_environment(context.settings, context.endpoint)
        try:
            return await self._engine.for_containers(given)
        except OSError as error:
            raise CannotStart(f"ResourceInitializationError: {error}") from error

    async def ports(self) -> dict[int, int]:
        """See Sandbox; a container that has ended meanwhile has none any more."""
        inspected = await self._docker.ask("GET", f"/containers/{self._ids[0]}/json")
        bound = inspected["NetworkSettings"]["Ports"] or {}
        return {int(port.partition("/")[0]): int(where[0]["HostPort"]) for port, where in bound.items() if where}

    async def remove(self) -> None:
        """See Sandbox. What cannot be removed now does not keep the task from ending."""
        for container_id in reversed(self._ids):
            await self._removed(f"/containers/{container_id}", {"force": "1", "v": "1"})
        for volume in self._task.task_definition.get("volumes") or []:
            await self._removed(f"/volumes/{volume_name(self._task, volume['name'])}")

    async def _removed(self, path: str, query: dict[str, str] | None = None) -> None:
        try:
            await self._docker.ask("DELETE", path, query=query)
        except (DockerRefused, aiohttp.ClientError) as error:
            if getattr(error, "status", None) != 404:
                log.warning("left to the guardian: %s: %s", path, error)


class DockerEngine:
    """Real containers. Linux only: Docker's daemon and this process must share one 127.0.0.1."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._socket = find_daemon()
        self.docker = Docker(self._socket)
        self._images = Images(context)
        self._pulled: dict[str, Image] = {}
        self._relay: Relay | None = None
        self._guardian: asyncio.subprocess.Process | None = None
        self.network = ""
        supervisor = f"{os.getpid()} {processes.started_at(os.getpid())}"
        self.labels = {DIRECTORY_LABEL: str(context.settings.state_dir), SUPERVISOR_LABEL: supervisor}

    async def open(self) -> None:
        """See Engine."""
        await self.docker.open()
        await self._begin_guarding()
        note_docker(self.context.settings.state_dir, self.context.registry)
        name = f"onnxship-{os.getpid()}-{self.context.registry.rpartition(':')[2]}"
        body = {"Name": name, "Driver": "bridge", "CheckDuplicate": True, "Labels": self.labels}
        try:
            self.network = (await self.docker.ask("POST", "/networks/create", body))["Id"]
        except DockerRefused as refusal:
            raise Unusable(
                f"Docker makes no network: {refusal}.", f"`docker network prune`, {OTHER_ENGINE}"
            ) from refusal
        network = await self.docker.ask("GET", f"/networks/{self.network}")
        address = next(one for one in network["IPAM"]["Config"] if "." in one["Subnet"])
        self._relay = Relay(address["Gateway"], address["Subnet"])
        await self._open_endpoint(self._relay)

    async def _begin_guarding(self) -> None:
        label = f"{SUPERVISOR_LABEL}={self.labels[SUPERVISOR_LABEL]}"
        words = [docker_guardian.__file__, self._socket, label, self.context.registry]
        self._guardian = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", *words), stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    async def _open_endpoint(self, relay: Relay) -> None:
        try:
            await self.for_containers({"": self.context.endpoint})
        except OSError as error:
            raise Unusable(
                f"Containers could not reach this machine: {relay.address} is no address of it ({error.strerror}). "
                "Docker's daemon runs in a virtual machine or a container of its own.",
                f"use a Docker that runs on this Linux itself, {OTHER_ENGINE}",
            ) from error
        self.context.names.add(relay.address)

    async def close(self) -> None:
        """See Engine. What tasks may have left is removed by the guardian, as after a death."""
        if self._relay:
            await self._relay.close()
        await self.docker.close()
        if self._guardian and self._guardian.stdin:
            self._guardian.stdin.write(b".")
            self._guardian.stdin.close()
            await asyncio.wait_for(self._guardian.wait(), GUARDIAN_S)  # it goes on without us
            forget_docker(self.context.settings.state_dir)

    async def pull(self, reference: str, digest: str | None) -> Image:
        """See Engine: resolved as ECS does, then pulled by Docker under that digest, once in a rehearsal's life."""
        if digest in self._pulled:
            return self._pulled[digest]
        image = await self._images.resolve(reference, digest)
        if image.digest not in self._pulled:
            await self._pull(Reference.parse(reference), image.digest)
            self._pulled[image.digest] = image
        return image

    async def _pull(self, reference: Reference, digest: str) -> None:
        answer = await self.context.call("ecr", "get_authorization_token")
        token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
        user, _, password = token.partition(":")
        login = json.dumps({"username": user, "password": password, "serveraddress": reference.registry})
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(login.encode()).decode()}
        name = f"{reference.registry}/{reference.repository}"
        query = {"fromImage": name, "tag": digest, "platform": "linux/amd64"}
        try:
            told = await self.docker.ask("POST", "/images/create", query=query, headers=headers)
        except (DockerRefused, aiohttp.ClientError) as refusal:
            raise CannotPull(str(refusal)) from refusal
        if error := next((line["error"] for line in told if "error" in line), None):
            raise CannotPull(str(error))

    def reference(self, task: Task, order: Order) -> str:
        """The image as Docker knows it: by its digest."""
        reference = Reference.parse(str(order.container["image"]))
        return f"{reference.registry}/{reference.repository}@{order.image.digest}"

    def sandbox(self, task: Task) -> DockerSandbox:
        """See Engine."""
        return DockerSandbox(self, task)

    async def for_containers(self, environment: dict[str, str]) -> dict[str, str]:
        """The same variables, with the rehearsal's own loopback addresses as a container can reach them."""
        assert self._relay
        ports = await self._own_ports()
        return {name: await self._relay.translated(value, ports) for name, value in environment.items()}

    async def _own_ports(self) -> set[int]:
        """The endpoint, the registry, and every listener there is: nothing else of this machine is opened."""
        own = {int(where.rpartition(":")[2]) for where in (self.context.endpoint, self.context.registry)}
        balancers = (await self.context.call("elbv2", "describe_load_balancers"))["LoadBalancers"]
        for balancer in (one for one in balancers if one["DNSName"] == LOOPBACK):
            arn = balancer["LoadBalancerArn"]
            listeners = (await self.context.call("elbv2", "describe_listeners", LoadBalancerArn=arn))["Listeners"]
            own |= {listener["Port"] for listener in listeners}
        return own

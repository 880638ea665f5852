"""The local AWS beside a configuration: whether it runs, how it is started, and how a process is pointed at it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pipeline import config as configuration
from pipeline.cli.interruption import held_back
from pipeline.config import Config
from pipeline.errors import AwsError, ConfigError, UsageError

LOOPBACK = "127.0.0.1"
STATE_DIR = Path(".onnxship/rehearsal")
# What a task is, and with it what builds the image: the first is the default.
BUILDERS = {"process": "layers", "docker": "docker"}
ENGINES = tuple(BUILDERS)
START_TIMEOUT_S = 60
END_TIMEOUT_S = 45
# Whatever these say of real accounts must not reach a command that talks to the local AWS.
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
CONSTANT = {
    "AWS_ACCESS_KEY_ID": "rehearsal",
    "AWS_SECRET_ACCESS_KEY": "rehearsal",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
NAMES = (*CONSTANT, "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "ONNXSHIP_OVERLAY")


def state_dir_of(config_path: Path) -> Path:
    """Where the local AWS of a configuration keeps its files."""
    return config_path.parent.resolve() / STATE_DIR


def running(config_path: Path) -> dict[str, Any] | None:
    """The state of a supervisor that answers, or None. Raises UsageError for an endpoint that is not loopback."""
    file = state_dir_of(config_path) / "rehearsal.json"
    try:
        state: dict[str, Any] = json.loads(file.read_text())
        endpoint = urlsplit(state["endpoint"])
    except (OSError, ValueError, KeyError):
        return None
    if endpoint.hostname != LOOPBACK or endpoint.port is None:
        raise UsageError(
            f"{file} names {state['endpoint']}, which is not on loopback ({LOOPBACK}).",
            "a rehearsal never leaves this machine: delete that file, then `onnxship rehearse up`",
        )
    return state if _answers(endpoint.port, state["pid"]) else None


def _answers(port: int, pid: int) -> bool:
    """True when that very supervisor answers there: after its end another process may have been given its port."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/_rehearsal/health")
        health = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(health, dict) and health.get("pid") == pid


def start(
    config: Config, seconds_per_minute: float, engine: str = ENGINES[0], assume: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Start the supervisor and wait until it answers; the supervisor's own state as a dict.

    Interrupted before it answers, it is ended again.
    """
    state_dir = state_dir_of(config.path)
    with writing(state_dir):
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir.parent / ".gitignore").write_text("*\n")
        log = (state_dir / "supervisor.out").open("ab")  # the supervisor that runs already may write to it
    command = [
        *(sys.executable, "-m", "rehearsal", "up", "--state-dir", str(state_dir)),
        *("--account", config.environment.account, "--region", config.environment.region),
        *("--seconds-per-minute", str(seconds_per_minute), "--engine", engine),
        *(word for answer in assume for word in ("--assume", answer)),
        *("--reserve-port", *map(str, _free_ports(2))),
    ]
    process: subprocess.Popen[bytes] | None = None
    try:
        begins_at = log.tell()
        with held_back(), log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )  # fmt: skip
        return _wait_until_up(config.path, process, begins_at)
    except BaseException:
        if process is not None:
            process.terminate()
            process.wait(END_TIMEOUT_S)
        raise


def _wait_until_up(config_path: Path, process: subprocess.Popen[bytes], begins_at: int) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        state = running(config_path)
        if state and state["pid"] == process.pid:
            return state
        time.sleep(0.1)
    if process.poll() is not None and (state := running(config_path)):
        raise runs_already(config_path, state)
    output = (state_dir_of(config_path) / "supervisor.out").read_bytes()[begins_at:]
    last = output.decode(errors="replace").strip().splitlines()[-12:]
    raise UsageError(
        "The local AWS did not start.",
        "see the lines above; `onnxship rehearse down` clears an old one",
        details=tuple(last),
    )


def refuse_another_engine(state: dict[str, Any], engine: str | None) -> None:
    """A local AWS runs its tasks in one way: raises UsageError when another was asked for."""
    if engine and engine != state["engine"]:
        raise UsageError(
            f"The local AWS runs its tasks with engine {state['engine']}, not {engine}.",
            "end it with `onnxship rehearse down`, then run the same command again",
        )


def runs_already(config_path: Path, state: dict[str, Any]) -> UsageError:
    """The refusal of a second local AWS beside the same configuration."""
    return UsageError(
        f"A local AWS runs already at {state['endpoint']} (pid {state['pid']}).",
        f"use it with {how_to_enter(config_path)}, or end it with `onnxship rehearse down`",
    )


@contextlib.contextmanager
def writing(state_dir: Path) -> Iterator[None]:
    """Within the block a file that cannot be written is a UsageError which says where, and how much room there is."""
    try:
        yield
    except OSError as error:
        there = next(path for path in (state_dir, *state_dir.parents) if path.exists())
        raise UsageError(
            f"{error.filename or state_dir} cannot be written: {error.strerror} "
            f"({shutil.disk_usage(there).free:,} bytes free).",
            "make room there, or let this user write there, then run the same command again",
        ) from error


def refuse_another_account(config: Config, state: dict[str, Any]) -> None:
    """A local AWS is one account in one region: those it was started with. Raises UsageError for others."""
    wanted, found = (config.environment.account, config.environment.region), (state["account"], state["region"])
    if wanted != found:
        raise UsageError(
            f"The local AWS runs as account {found[0]} in {found[1]}, but {config.path} says {wanted[0]} in "
            f"{wanted[1]}.",
            "end it with `onnxship rehearse down`, then run the same command again",
        )


def variables(config_path: Path) -> dict[str, str]:
    """The environment in which every AWS tool, and onnxship itself, reaches the local AWS."""
    state = running(config_path)
    if state is None:
        if not config_path.exists():
            raise ConfigError(
                f"There is no {config_path} in {Path.cwd()}, and no local AWS.",
                "go to its directory, or name it with `--config`",
            )
        raise UsageError(f"No local AWS runs for {config_path}.", "start one with `onnxship rehearse up`")
    with writing(state_dir_of(config_path)):
        _write_overlay(state_dir_of(config_path), state["reserved_ports"], state["engine"])
    return CONSTANT | {
        "AWS_ENDPOINT_URL": state["endpoint"],
        "AWS_REGION": state["region"],
        "AWS_DEFAULT_REGION": state["region"],
        "ONNXSHIP_OVERLAY": str(state_dir_of(config_path) / "overlay.yaml"),
    }


def environment_for(config_path: Path) -> dict[str, str]:
    """This process's environment with those variables, and without any that name a real account."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return kept | variables(config_path)


def how_to_enter(config_path: Path) -> str:
    """The line that points a shell at the local AWS beside this configuration."""
    named = "" if str(config_path) == configuration.CONFIG_FILE else f" --config {shlex.quote(str(config_path))}"
    return f'eval "$(onnxship rehearse env{named})"'


def in_this_shell_first(config_path: Path) -> str:
    """That line, when a local AWS runs here and this process is not pointed at it; else ""."""
    state = running(config_path)
    entered = state is not None and os.environ.get("AWS_ENDPOINT_URL") == state["endpoint"]
    return how_to_enter(config_path) if state and not entered else ""


def advise(error: AwsError, config_path: Path) -> AwsError:
    """The same error; without credentials, but with a local AWS beside the configuration, that is the way on."""
    if error.code != "NoCredentials" or not (line := in_this_shell_first(config_path)):
        return error
    return AwsError(
        error.what,
        f"the local AWS of this project runs: {line}; for a real account `aws sso login`",
        code=error.code,
        details=error.details,
    )


def limits(state: dict[str, Any]) -> list[str]:
    """What the local AWS cannot show, in its own sentences."""
    connection = http.client.HTTPConnection(urlsplit(state["endpoint"]).netloc, timeout=5)
    try:
        connection.request("GET", "/_rehearsal/report")
        return [str(sentence) for sentence in json.loads(connection.getresponse().read())["not_rehearsed"]]
    except (OSError, http.client.HTTPException) as error:
        return [f"It ended before it could be asked ({error})."]
    finally:
        connection.close()


# The local load balancer speaks plain HTTP, and no name leads to it.
WITHOUT_TLS = {"certificate_arn": None, "domain": None, "allow_http": True}


def _write_overlay(state_dir: Path, ports: list[int], engine: str) -> None:
    """What differs on this machine: the ports kept free, no certificate, the engine's builder, short polls, callers on
    loopback.

    Written from what the running supervisor says of itself, whenever its environment is asked for: two that start at
    once, or a command killed half-way, leave no other one's ports in it.
    """
    production_port, test_port = ports
    overlay = {
        "edge": {"production_port": production_port, "test_port": test_port, **WITHOUT_TLS},
        "poll_interval_s": 0.25,
        "services": {"*": {"image": {"builder": BUILDERS[engine]}, "gate": {"runner_cidr": f"{LOOPBACK}/32"}}},
    }
    text = (
        "# Written by `onnxship rehearse`: merged over onnxship.yaml while ONNXSHIP_OVERLAY names it.\n"
        + yaml.safe_dump(overlay, sort_keys=False)
    )
    path = state_dir / "overlay.yaml"
    if not path.exists() or path.read_text() != text:
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(text)
        unfinished.replace(path)  # another command may be reading it


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((LOOPBACK, 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports

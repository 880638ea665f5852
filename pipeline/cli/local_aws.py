"""The local AWS beside a configuration: whether it runs, how it is started, and how a process is pointed at it."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import time
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
    try:
        with socket.create_connection((LOOPBACK, endpoint.port), timeout=2):
            return state
    except OSError:
        return None


def start(config: Config, seconds_per_minute: float, assume: tuple[str, ...] = ()) -> dict[str, Any]:
    """Start the supervisor, wait until it answers, write the overlay; the supervisor's own state as a dict.

    Interrupted before it answers, it is ended again.
    """
    state_dir = state_dir_of(config.path)
    state_dir.mkdir(parents=True, exist_ok=True)
    (state_dir.parent / ".gitignore").write_text("*\n")
    ports = _write_overlay(state_dir)
    command = [
        *(sys.executable, "-m", "rehearsal", "up", "--state-dir", str(state_dir)),
        *("--account", config.environment.account, "--region", config.environment.region),
        *("--seconds-per-minute", str(seconds_per_minute)),
        *(word for answer in assume for word in ("--assume", answer)),
        *("--reserve-port", *map(str, ports)),
    ]
    process: subprocess.Popen[bytes] | None = None
    try:
        with held_back(), (state_dir / "supervisor.out").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )  # fmt: skip
        return _wait_until_up(config.path, process)
    except BaseException:
        if process is not None:
            process.terminate()
            process.wait(END_TIMEOUT_S)
        raise


def _wait_until_up(config_path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        state = running(config_path)
        if state and state["pid"] == process.pid:
            return state
        time.sleep(0.1)
    last = (state_dir_of(config_path) / "supervisor.out").read_text(errors="replace").strip().splitlines()[-12:]
    raise UsageError(
        "The local AWS did not start.",
        "see the lines above; `onnxship rehearse down` clears an old one",
        details=tuple(last),
    )


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


def _write_overlay(state_dir: Path) -> list[int]:
    """What differs on this machine: free ports, no Docker needed, short polls, callers on loopback. Gives the ports."""
    production_port, test_port = ports = _free_ports(2)
    overlay = {
        "edge": {"production_port": production_port, "test_port": test_port},
        "poll_interval_s": 0.25,
        "services": {"*": {"image": {"builder": "layers"}, "gate": {"runner_cidr": f"{LOOPBACK}/32"}}},
    }
    (state_dir / "overlay.yaml").write_text(
        "# Written by `onnxship rehearse up`: merged over onnxship.yaml while ONNXSHIP_OVERLAY names it.\n"
        + yaml.safe_dump(overlay, sort_keys=False)
    )
    return ports


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((LOOPBACK, 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports

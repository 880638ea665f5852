"""`onnxship rehearse`: starts and ends the local AWS, and points other commands at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from pipeline import config as configuration
from pipeline.cli.options import LOOPBACK, config_options, need, output_option
from pipeline.errors import StateUnknown, UsageError

STATE_DIR = Path(".onnxship/rehearsal")
START_TIMEOUT_S = 60
# Whatever these say of real accounts must not reach a command that talks to the local AWS.
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


def add_to(cli: click.Group) -> None:
    cli.add_command(rehearse)


@click.group()
def rehearse() -> None:
    """The local AWS: the same commands, on this machine, without an account.

    \b
    Example: onnxship rehearse ship
             eval "$(onnxship rehearse env)" && onnxship status
             onnxship rehearse down
    """


@rehearse.command()
@config_options
@click.option("--seconds-per-minute", default=2.0, show_default=True, help="Real seconds for one AWS minute of bake.")
@output_option
@click.option(
    "--assume",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another reading of an open question about ECS, such as hooks_at_creation=false; may be repeated.",
)
def up(config_path: Path, env: str | None, seconds_per_minute: float, output: str, assume: tuple[str, ...]) -> None:
    """Start the local AWS and leave it running.

    \b
    Example: onnxship rehearse up
    """
    state = start(config_path, env, seconds_per_minute, assume)
    click.echo(json.dumps(state, indent=2) if output == "json" else _what_runs(state))


@rehearse.command(name="env")
@config_options
def env_command(config_path: Path, env: str | None) -> None:
    """Print the exports that point every AWS tool of this shell at the local AWS.

    \b
    Example: eval "$(onnxship rehearse env)"
    """
    for name, value in variables(config_path).items():
        click.echo(f"export {name}='{value}'")
    click.echo(f"unset {' '.join(UNSET)}")
    click.echo("""case "${PS1-}" in "(rehearsal) "*) ;; *) PS1="(rehearsal) ${PS1-}";; esac""")


@rehearse.command()
@config_options
@output_option
def down(config_path: Path, env: str | None, output: str) -> None:
    """End the local AWS and every task in it.

    \b
    Example: onnxship rehearse down
    """
    state_dir = _state_dir(config_path)
    ended = subprocess.run(
        [sys.executable, "-m", "rehearsal", "down", "--state-dir", str(state_dir)], check=False, stdout=sys.stderr
    )
    if ended.returncode:
        raise StateUnknown(f"The local AWS of {state_dir} did not end.", f"read {state_dir / 'rehearsal.log'}")
    click.echo(json.dumps({"ended": True}) if output == "json" else "The local AWS has ended; no task of it is left.")


@rehearse.command(context_settings={"ignore_unknown_options": True})
@config_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(config_path: Path, env: str | None, command: tuple[str, ...]) -> None:
    """Run any command with the local AWS in its environment.

    \b
    Example: onnxship rehearse run -- aws ecs list-services --cluster digits
    """
    if shutil.which(command[0]) is None:
        raise UsageError(f"There is no command `{command[0]}`.", "name one that is on PATH")
    sys.exit(_call(list(command), environment_for(config_path)))


@rehearse.command()
@config_options
@click.option("--service", "-s", metavar="NAME", help="The service to ship.")
@click.option("--release", metavar="ID", help="The release's name; made from the time and commit if left out.")
@click.option("--seconds-per-minute", default=2.0, show_default=True, help="Real seconds for one AWS minute of bake.")
@output_option
def ship(
    config_path: Path, env: str | None, service: str | None, release: str | None, seconds_per_minute: float, output: str
) -> None:
    """Start the local AWS if it does not run, bootstrap it, ship, and leave it all running.

    \b
    Example: onnxship rehearse ship --release v1
    """
    if _running(_state_dir(config_path)) is None:
        click.echo(_what_runs(start(config_path, env, seconds_per_minute)), err=True)
    environment = environment_for(config_path)
    onnxship = [sys.executable, "-m", "pipeline"]
    common = [
        "--config",
        str(config_path),
        *(["--env", env] if env else []),
        *(["--service", service] if service else []),
    ]
    code = _call([*onnxship, "bootstrap", *common], environment, stdout=sys.stderr)
    if code == 0:
        named = ["--release", release] if release else []
        code = _call([*onnxship, "ship", *common, *named, "--allow-dirty", "--yes", "--output", output], environment)
    if code == 0 and output == "text":
        click.echo(
            'It all keeps running: eval "$(onnxship rehearse env)" to look around, `onnxship rehearse down` to end it.',
            err=True,
        )
    sys.exit(code)


def start(
    config_path: Path, env: str | None, seconds_per_minute: float, assume: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Start the supervisor, wait until it answers, write the overlay; the supervisor's own state as a dict."""
    need("moto", "onnxship[rehearsal]")
    config = configuration.load(config_path, env)
    state_dir = _state_dir(config_path)
    if (running := _running(state_dir)) is not None:
        raise UsageError(
            f"A local AWS runs already at {running['endpoint']} (pid {running['pid']}).",
            "use it, or end it with `onnxship rehearse down`",
        )
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
    with (state_dir / "supervisor.out").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        state = _running(state_dir)
        if state and state["pid"] == process.pid:
            return state
        time.sleep(0.1)
    else:
        process.terminate()
    last = (state_dir / "supervisor.out").read_text(errors="replace").strip().splitlines()[-12:]
    raise UsageError(
        "The local AWS did not start.",
        "see the lines above; `onnxship rehearse down` clears an old one",
        details=tuple(last),
    )


def variables(config_path: Path) -> dict[str, str]:
    """The environment in which every AWS tool, and onnxship itself, reaches the local AWS."""
    state_dir = _state_dir(config_path)
    state = _running(state_dir)
    if state is None:
        raise UsageError(f"No local AWS runs for {config_path}.", "start one with `onnxship rehearse up`")
    return {
        "AWS_ENDPOINT_URL": state["endpoint"],
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_REGION": state["region"],
        "AWS_DEFAULT_REGION": state["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "ONNXSHIP_OVERLAY": str(state_dir / "overlay.yaml"),
    }


def environment_for(config_path: Path) -> dict[str, str]:
    """This process's environment with those variables, and without any that name a real account."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return kept | variables(config_path)


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


def _state_dir(config_path: Path) -> Path:
    return config_path.parent.resolve() / STATE_DIR


def _running(state_dir: Path) -> dict[str, Any] | None:
    """The state of a supervisor that answers, or None. Raises UsageError for an endpoint that is not loopback."""
    try:
        state: dict[str, Any] = json.loads((state_dir / "rehearsal.json").read_text())
        endpoint = urlsplit(state["endpoint"])
    except (OSError, ValueError, KeyError):
        return None
    if endpoint.hostname != LOOPBACK or endpoint.port is None:
        raise UsageError(
            f"{state_dir / 'rehearsal.json'} names {state['endpoint']}, which is not on loopback ({LOOPBACK}).",
            "a rehearsal never leaves this machine: delete that file, then `onnxship rehearse up`",
        )
    try:
        with socket.create_connection((LOOPBACK, endpoint.port), timeout=2):
            return state
    except OSError:
        return None


def _what_runs(state: dict[str, Any]) -> str:
    return (
        f"The local AWS runs at {state['endpoint']} (account {state['account']}, {state['region']}; "
        f"{state['seconds_per_minute']:g} s stand for one AWS minute of bake).\n"
        'To use it from this shell:  eval "$(onnxship rehearse env)"\n'
        "To end it:                  onnxship rehearse down"
    )


def _call(command: list[str], environment: dict[str, str], stdout: Any = None) -> int:
    """Run a command in the foreground; an interruption is handed on and waited for."""
    process = subprocess.Popen(command, env=environment, stdout=stdout)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((LOOPBACK, 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports

"""`onnxship rehearse`: starts and ends the local AWS, and points other commands at it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from pipeline import config as configuration
from pipeline.building import docker
from pipeline.cli import interruption, local_aws
from pipeline.cli.options import config_options, need, output_option
from pipeline.errors import StateUnknown, UsageError

# Only in a shell that entered: elsewhere these may be the user's own.
LEAVE = """if [ "${{AWS_ACCESS_KEY_ID-}}" = rehearsal ]; then
unset {names}
PS1="${{PS1-}}"; PS1="${{PS1#"(rehearsal) "}}"
fi"""
SHOWN_LIMITS = 8  # the gravest come first; all of them would push the result off the screen


engine_option = click.option(
    "--engine",
    type=click.Choice(local_aws.ENGINES),
    help="What a task is: a process of this machine, or a container of its Docker.  [default: process]",
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
@engine_option
@output_option
@click.option(
    "--assume",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another reading of an open question about ECS, such as hooks_at_creation=false; may be repeated.",
)
def up(
    config_path: Path, env: str | None, seconds_per_minute: float, engine: str | None, output: str,
    assume: tuple[str, ...],
) -> None:  # fmt: skip
    """Start the local AWS and leave it running.

    \b
    Example: onnxship rehearse up
             onnxship rehearse up --engine docker
    """
    config = configuration.load(config_path, env)
    if (state := local_aws.running(config_path)) is not None:
        local_aws.refuse_another_account(config, state)
        raise local_aws.runs_already(config_path, state)
    state = _start(config, seconds_per_minute, engine, assume)
    click.echo(json.dumps(state, indent=2) if output == "json" else _what_runs(state, config_path))


@rehearse.command(name="env")
@config_options
@click.option("--unset", "leave", is_flag=True, help="Print what takes a shell out of the rehearsal again.")
def env_command(config_path: Path, env: str | None, leave: bool) -> None:
    """Print the exports that point every AWS tool of this shell at the local AWS.

    \b
    Example: eval "$(onnxship rehearse env)"
             eval "$(onnxship rehearse env --unset)"
    """
    if leave:
        click.echo(LEAVE.format(names=" ".join(local_aws.NAMES)))
        return
    for name, value in local_aws.variables(config_path).items():
        click.echo(f"export {name}='{value}'")
    click.echo(f"unset {' '.join(local_aws.UNSET)}")
    click.echo("""case "${PS1-}" in "(rehearsal) "*) ;; *) PS1="(rehearsal) ${PS1-}";; esac""")


@rehearse.command()
@config_options
@output_option
def down(config_path: Path, env: str | None, output: str) -> None:
    """End the local AWS and every task in it.

    \b
    Example: onnxship rehearse down
    """
    state_dir = local_aws.state_dir_of(config_path)
    ended = subprocess.run(
        [sys.executable, "-m", "rehearsal", "down", "--state-dir", str(state_dir)], check=False, stdout=sys.stderr
    )
    if ended.returncode:
        raise StateUnknown(f"The local AWS of {state_dir} did not end.", f"read {state_dir / 'rehearsal.log'}")
    click.echo(
        json.dumps({"ended": True})
        if output == "json"
        else "No local AWS of this project runs, and no task of it is left."
    )
    if os.environ.get("AWS_ACCESS_KEY_ID") == "rehearsal":
        click.echo('This shell still points at it; to leave: eval "$(onnxship rehearse env --unset)"', err=True)


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
    environment = local_aws.environment_for(config_path)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a command would inherit that
    os.execvpe(command[0], list(command), environment)  # noqa: S606 - in our place: signals reach it as they come


@rehearse.command()
@config_options
@click.option("--service", "-s", metavar="NAME", help="The service to ship.")
@click.option("--release", metavar="ID", help="The release's name; made from the time and commit if left out.")
@click.option("--seconds-per-minute", default=2.0, show_default=True, help="Real seconds for one AWS minute of bake.")
@engine_option
@output_option
def ship(
    config_path: Path, env: str | None, service: str | None, release: str | None, seconds_per_minute: float,
    engine: str | None, output: str,
) -> None:  # fmt: skip
    """Start the local AWS if it does not run, bootstrap it, ship, and leave it all running.

    \b
    Example: onnxship rehearse ship --release v1
    """
    config = configuration.load(config_path, env)
    state = local_aws.running(config_path)
    if state is None:
        state = _start(config, seconds_per_minute, engine)
        click.echo(_what_runs(state, config_path), err=True)
    local_aws.refuse_another_account(config, state)
    local_aws.refuse_another_engine(state, engine)
    common = ["--config", str(config_path), *_given("--env", env), *_given("--service", service)]
    code = interruption.EXIT_CODE
    try:
        code = _bootstrap_and_ship(config_path, common, ["--output", output, *_given("--release", release)])
    finally:
        if code or output == "text":
            click.echo(f"\n{_farewell(config_path, state, code)}", err=True)
    sys.exit(code)


def _given(option: str, value: str | None) -> list[str]:
    return [option, value] if value else []


def _bootstrap_and_ship(config_path: Path, common: list[str], more: list[str]) -> int:
    environment = local_aws.environment_for(config_path)
    # `ship` refuses files that are not committed where CI is set. What is only rehearsed may be thrown away.
    environment.pop("CI", None)
    bootstrap, ship = ["bootstrap", *common], ["ship", *common, *more, "--allow-dirty", "--yes"]
    # What is typed here is told, and of `bootstrap` only its progress: its result would stand between the two.
    code = _run(bootstrap, environment, stdout=subprocess.DEVNULL)
    return code or _run(ship, environment)


def _run(words: list[str], environment: dict[str, str], stdout: int | None = None) -> int:
    typed = shlex.join(["onnxship", *words])
    for default in (f" --config {configuration.CONFIG_FILE}", " --output text"):
        typed = typed.replace(default, "")
    click.echo(f"\n$ {typed}", err=True)
    return interruption.run_to_end([sys.executable, "-m", "pipeline", *words], environment, stdout=stdout)


def _farewell(config_path: Path, state: dict[str, Any], code: int) -> str:
    """After the result what it cannot show, after a failure where its remedies can be typed; and what runs on."""
    first = local_aws.in_this_shell_first(config_path)
    if code:
        lines = [f"In this shell first: {first}"] if first else []
        return "\n".join([*lines, "The local AWS keeps running: `onnxship rehearse down` ends it."])
    limits = local_aws.limits(state)
    lines = ["What a rehearsal cannot show:", *(f"  - {sentence}" for sentence in limits[:SHOWN_LIMITS])]
    if more := limits[SHOWN_LIMITS:]:
        lines.append(f"  and {len(more)} smaller things: curl {state['endpoint']}/_rehearsal/report")
    look = f"{first} to look around, " if first else ""
    return "\n".join([*lines, f"It all keeps running: {look}`onnxship rehearse down` to end it."])


def _start(
    config: configuration.Config, seconds_per_minute: float, engine: str | None, assume: tuple[str, ...] = ()
) -> dict[str, Any]:
    need("moto", "onnxship[rehearsal]")
    if engine == "docker":
        docker.require_docker()
    try:
        return local_aws.start(config, seconds_per_minute, engine or local_aws.ENGINES[0], assume)
    except KeyboardInterrupt:
        click.echo("The local AWS was still starting, and has been ended.", err=True)
        raise


def _what_runs(state: dict[str, Any], config_path: Path) -> str:
    tasks = "" if state["engine"] == local_aws.ENGINES[0] else f"; engine {state['engine']}"
    return (
        f"The local AWS runs at {state['endpoint']} (account {state['account']}, {state['region']}; "
        f"{state['seconds_per_minute']:g} s stand for one AWS minute of bake{tasks}).\n"
        f"To use it from this shell:  {local_aws.how_to_enter(config_path)}\n"
        "To end it:                  onnxship rehearse down"
    )

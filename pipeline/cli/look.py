"""Commands that look, and those that clear up: status, history, logs, doctor, lock, destroy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from pipeline import config as configuration
from pipeline.aws import session
from pipeline.aws.lock import free_lock, read_lock
from pipeline.cli import local_aws
from pipeline.cli.caller import who
from pipeline.cli.log_text import readable
from pipeline.cli.options import Run, config_options, confirm, dry_run_option, output_option, run_options, yes_option
from pipeline.deployment.place import lock_place
from pipeline.errors import ConfigError
from pipeline.results import Check, Destroyed, StackChange
from pipeline.stages import destroy as destroy_stage
from pipeline.stages import history as history_stage
from pipeline.stages import logs as logs_stage
from pipeline.stages import status as status_stage
from pipeline.words import counted


def add_to(cli: click.Group) -> None:
    for command in (status, history, logs, doctor, lock, destroy):
        cli.add_command(command)


@click.command()
@run_options
def status(run: Run) -> None:
    """What runs now: release, tasks, targets and weights, deployments under way, alarms, the lock.

    \b
    Example: onnxship status --env production
    """
    run.show(status_stage.status(run.config, run.aws, service=run.service))


@click.command()
@run_options
@click.option("--limit", default=20, show_default=True, help="How many of the newest.")
def history(run: Run, limit: int) -> None:
    """The releases, newest first: how each ended, from which commit, by whom.

    \b
    Example: onnxship history --limit 5
    """
    run.show(history_stage.history(run.config, run.aws, service=run.service, limit=limit))


@click.command()
@run_options
@click.option("--since-s", default=600.0, show_default=True, help="How many seconds to look back.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--task", "task_id", metavar="ID", help="Only this task's lines.")
@click.option("--pattern", default="", metavar="TEXT", help="A CloudWatch Logs filter pattern.")
def logs(run: Run, since_s: float, follow: bool, task_id: str | None, pattern: str) -> None:
    """The lines that the service's tasks wrote. With `--output json` each line is one JSON object (JSON Lines).

    \b
    Example: onnxship logs --since-s 3600 --pattern error
    """
    shown = 0
    lines = logs_stage.logs(
        run.config,
        run.aws,
        run.clock,
        service=run.service,
        since_s=since_s,
        follow=follow,
        task_id=task_id,
        pattern=pattern,
    )
    for line in lines:
        shown += 1
        if run.output == "json":
            click.echo(json.dumps(dataclasses.asdict(line)))
        else:
            click.echo(f"{line.stream.rsplit('/', 1)[-1][:8]}  {readable(line.message)}")
    if not shown:
        of = f" of task {task_id}" if task_id else ""
        that = f" that match `{pattern}`" if pattern else ""
        click.echo(f"No lines{of}{that} in the last {since_s:g} s: `--since-s` looks back further.", err=True)


@click.command()
@run_options
def doctor(run: Run) -> None:
    """Check, without changing anything, what a ship will need: identity, model, golden inputs, builder, stacks.

    \b
    Example: onnxship doctor --env production
    """
    from pipeline.stages import doctor as doctor_stage  # ONNX comes with it, which no other command here needs

    aws = session.connect_unchecked(run.config)
    run.announce(aws)
    checkup = doctor_stage.doctor(run.config, aws)
    run.show(checkup)
    failed = [check for check in checkup.checks if not check.ok]
    if failed:
        raise ConfigError(
            f"{len(failed)} of {counted(len(checkup.checks), 'check')} failed.",
            _remedy(failed[0], run.config.path),
            details=tuple(f"{check.name}: {check.detail}" for check in failed),
        )


def _remedy(failed: Check, config_path: Path) -> str:
    """Who has no identity in AWS, but a local AWS beside the configuration, may have forgotten to enter it."""
    enter = local_aws.in_this_shell_first(config_path) if failed.name == "identity" else ""
    return f"{failed.remedy}; the local AWS of this project: {enter}" if enter else failed.remedy


@click.group()
def lock() -> None:
    """Who may ship: one run at a time for each environment and service.

    \b
    Example: onnxship lock status
    """


@lock.command(name="status")
@run_options
def lock_status(run: Run) -> None:
    """Who holds the lock, since when, and until when.

    \b
    Example: onnxship lock status --env production
    """
    run.show(read_lock(run.aws, lock_place(run.config, run.aws, run.service)))


@lock.command(name="release")
@run_options
@dry_run_option
@yes_option
def lock_release(run: Run, dry_run: bool, yes: bool) -> None:
    """Take the lock from a run that is dead; a living one changes nothing more.

    \b
    Example: onnxship lock release --yes
    """
    if dry_run:
        run.show(read_lock(run.aws, lock_place(run.config, run.aws, run.service)))
        return
    confirm(run, "Free the lock", yes)
    by = f"{who()} (`onnxship lock release`)"
    taken = free_lock(run.aws, lock_place(run.config, run.aws, run.service), by=by)
    run.progress("the lock is free now; it was taken from:" if taken.held else "the lock was free already")
    run.show(taken)


@click.command()
@config_options
@output_option
@click.option("--everything", is_flag=True, help="Delete images, models and release records too.")
@dry_run_option
@yes_option
def destroy(config_path: Path, env: str | None, output: str, everything: bool, dry_run: bool, yes: bool) -> None:
    """Delete the environment's stacks, and say what still costs.

    \b
    Example: onnxship destroy --env staging --yes
    """
    config = configuration.load(config_path, env)
    run = Run(config, next(iter(config.services)), output)
    if dry_run:
        names = destroy_stage.destroy_plan(config, run.aws, everything=everything)
        run.show(Destroyed(tuple(StackChange(name, "would-delete") for name in names), ()))
        return
    confirm(run, f"Delete every stack of {config.project}" + (" and ALL ITS DATA" if everything else ""), yes)
    run.show(destroy_stage.destroy(config, run.aws, run.clock, everything=everything, on_progress=run.progress))

"""What every command shares: its options, and the Run that they make."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from pipeline import config as configuration
from pipeline import report
from pipeline.aws import session
from pipeline.cli import interruption, local_aws
from pipeline.config import Config, Service
from pipeline.errors import AwsError, UsageError
from pipeline.waiting import Clock, SystemClock

LOOPBACK = local_aws.LOOPBACK


@dataclass
class Run:
    """One call of a command: its configuration, its service, and where its result goes."""

    config: Config
    service: str
    output: str
    clock: Clock = field(default_factory=SystemClock)
    started_s: float = field(default_factory=time.monotonic)

    @functools.cached_property
    def aws(self) -> session.Aws:
        """The account, once STS has confirmed it; says on stderr where the command acts."""
        aws = session.connect(self.config)
        self.announce(aws)
        return aws

    @property
    def settings(self) -> Service:
        """The service's part of the configuration."""
        return self.config.services[self.service]

    def announce(self, aws: session.Aws) -> None:
        where = f" at {aws.endpoint_url} (not AWS)" if aws.endpoint_url else ""
        overlay = f", overlay {self.config.overlay}" if self.config.overlay else ""
        click.echo(f"{self.config.environment_name}: account {aws.account}, {aws.region}{where}{overlay}", err=True)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command began."""
        return round(self.clock.monotonic() - self.started_s, 3)

    def progress(self, line: str) -> None:
        """A line of progress on stderr, with the seconds since the command began.

        When its reader has gone (`2>&1 | head`) that interrupts once; what is cleared up then is told to nobody.
        """
        try:
            click.echo(f"{self.elapsed_s:7.1f} s  {line}", err=True)
        except BrokenPipeError:
            interruption.silence(sys.stderr)
            raise

    def show(self, result: Any) -> None:
        """The result, and only the result, on stdout; in GitHub Actions also as the step's summary."""
        click.echo(report.as_json(result) if self.output == "json" else report.as_text(result))
        report.append_step_summary(result)


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--output text|json`."""
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        envvar="ONNXSHIP_OUTPUT",
        help="What stdout carries: text for people, or one JSON object.",
    )(command)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--config` and `--env`: which file, and which of its environments. What AWS refuses is told in its light."""

    @functools.wraps(command)
    def advised(config_path: Path, **rest: Any) -> Any:
        try:
            return command(config_path=config_path, **rest)
        except AwsError as error:
            raise local_aws.advise(error, config_path) from error

    decorated: Callable[..., Any] = advised
    for option in (
        click.option("--env", "-e", envvar="ONNXSHIP_ENV", metavar="NAME", help="The environment to act in."),
        click.option(
            "--config",
            "-c",
            "config_path",
            type=click.Path(path_type=Path),
            default=configuration.CONFIG_FILE,
            envvar="ONNXSHIP_CONFIG",
            show_default=True,
            help="The configuration file.",
        ),
    ):
        decorated = option(decorated)
    return decorated


service_option = click.option(
    "--service", "-s", envvar="ONNXSHIP_SERVICE", metavar="NAME", help="The service to act on."
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads onnxship.yaml; the command gets a Run as its first argument."""

    @functools.wraps(command)
    def wrapped(config_path: Path, env: str | None, service: str | None, output: str, **rest: Any) -> Any:
        config = configuration.load(config_path, env)
        return command(Run(config, config.resolve_service(service), output), **rest)

    return config_options(service_option(output_option(wrapped)))


dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal.")


def need(module: str, extra: str) -> None:
    """Refuse a command whose optional dependency is not installed, naming the extra that brings it."""
    if find_spec(module) is None:
        raise UsageError(f"This command needs `{module}`, which is not installed.", f"pip install '{extra}'")


def confirm(run: Run, what: str, yes: bool) -> None:
    """Ask on a terminal; without one `--yes` must be given. Says first where the command acts.

    An environment with `approval: true` wants its name typed: a yes given out of habit is none.
    """
    name = run.config.environment_name
    where = f"{run.service} in {name} (account {run.aws.account})"
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask on.", "add `--yes` to act without a question")
    if not run.config.environment.approval:
        click.confirm(f"{what}: {where}?", abort=True, err=True)
    elif click.prompt(f"{what}: {where}? Type `{name}` to approve", err=True, default="", show_default=False) != name:
        raise UsageError(f"`{name}` was not typed; nothing was changed.", f"type `{name}`, or add `--yes`")

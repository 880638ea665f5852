"""The command `onnxship`: options, one call of a stage, one report. Nothing is decided here but the order of stages."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from pipeline.cli import interruption
from pipeline.errors import PipelineError

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count
# Which module has which commands, in the order of a release's life.
MODULES = {
    "local": ("init", "serve", "manifest"),
    "rehearse": ("rehearse",),
    "stages": ("bootstrap", "build", "scan", "publish", "deploy", "rollout", "loadtest", "alarms"),
    "ship": ("ship", "rollback", "abort"),
    "look": ("status", "history", "logs", "doctor", "lock", "destroy"),
}


class Commands(click.Group):
    """All commands; one whose reader has gone (`| head -1`) ends without a word, as other tools do."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            interruption.silence(sys.stdout)
            sys.exit(BROKEN_PIPE)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="onnxship", prog_name="onnxship")
def cli() -> None:
    """Ship ONNX models to Amazon ECS: build, scan, blue-green with gates, rollback, cost alarms.

    \b
    On one machine, without AWS:   onnxship init --model my.onnx --data labelled.npz
                                   onnxship rehearse ship
    In your account:               onnxship doctor; onnxship bootstrap; onnxship ship
    When something went wrong:     onnxship status; onnxship logs; onnxship rollback
    """


def main() -> None:
    """Run the command; every PipelineError is printed here, with its remedy, and becomes the exit code."""
    try:
        interruption.raise_once()
        complete(cli, *sys.argv[1:2])
        cli(standalone_mode=False)
    except PipelineError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        error.show()
        click.echo("Fix: see `onnxship --help` and the example in each command's help.", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(interruption.EXIT_CODE)


def complete(group: click.Group, first_word: str = "") -> None:
    """Add every command to `group`; where `first_word` is one, only those beside it, which takes half the time."""
    wanted = [module for module, names in MODULES.items() if first_word in names] or list(MODULES)
    for module in wanted:
        importlib.import_module(f"pipeline.cli.{module}").add_to(group)

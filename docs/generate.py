"""Writes the parts of the documentation that the code itself knows. Run it as `python docs/generate.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli import cli, complete

DOCS = Path(__file__).resolve().parent
WIDTH = 100
COMMANDS, REHEARSAL = "reference/commands.md", "explanation/rehearsal.md"
BEGIN, END = "<!-- from rehearsal/limits.py and the parts: python docs/generate.py -->", "<!-- end -->"
COMMANDS_HEAD = """# Commands

What `onnxship COMMAND --help` says, by `python docs/generate.py`. Exit codes stand in the
[README](../../README.md#exit-codes); what to do about each, in [Read a refusal](../how-to/read-a-refusal.md).

stdout carries the result alone, as text or, with `--output json`, as one JSON object; progress and errors go to stderr.
"""


def contexts(command: click.Command = cli, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Every command with the words that lead to it, groups before their members, in the order of a release's life."""
    name = "onnxship" if parent is None else command.name
    settings = {"terminal_width": WIDTH} | command.context_settings
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for member in command.commands.values():
            yield from contexts(member, context)


def commands_page() -> str:
    """docs/reference/commands.md."""
    complete(cli)
    every = list(contexts())[1:]
    rows = [f"| [`{c.command_path}`](#{c.command_path.replace(' ', '-')}) | {_summary(c.command)} |" for c in every]
    table = ["| command | does |", "|---|---|", *rows]
    bodies = [f"## {c.command_path}\n\n```text\n{_help(c)}\n```\n" for c in every]
    return "\n".join([COMMANDS_HEAD, *table, "", *_variables(every), "", *bodies]).rstrip() + "\n"


def limits() -> list[str]:
    """What a rehearsal says of itself that it does not show, with its default settings; then what Docker changes."""
    from rehearsal.balancer import Balancing
    from rehearsal.context import Settings
    from rehearsal.ecs.part import NOT_REHEARSED
    from rehearsal.limits import ENGINES, sentences
    from rehearsal.metering import Metering

    settings = Settings("111122223333", "eu-west-1", Path())
    of_parts = [*NOT_REHEARSED, *Balancing.not_rehearsed, *Metering.not_rehearsed]
    in_containers = [f"With `--engine docker` instead: {sentence}" for sentence in ENGINES["docker"]]
    return [*sentences(settings), *of_parts, *in_containers]


def rehearsal_page(present: str) -> str:
    """docs/explanation/rehearsal.md with the list of limits as the code has it now."""
    head, tail = present.partition(BEGIN)[0], present.partition(END)[2]
    return head + "\n".join([BEGIN, "", *(f"- {sentence}" for sentence in limits()), "", END]) + tail


def pages() -> dict[str, str]:
    """Every page that is generated, in part or in whole, by its path below docs/."""
    return {COMMANDS: commands_page(), REHEARSAL: rehearsal_page((DOCS / REHEARSAL).read_text())}


def _summary(command: click.Command) -> str:
    """The help's first sentence, whole."""
    first = " ".join((command.help or "").partition("\n\n")[0].split())
    return re.sub(r"([<|])", r"\\\1", first)


def _help(context: click.Context) -> str:
    lines = context.command.get_help(context).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _variables(every: list[click.Context]) -> list[str]:
    """The environment variables that stand in for options."""
    found = {
        option.envvar: (option.opts[0], option.help or "")
        for context in every
        for option in context.command.params
        if isinstance(option, click.Option) and isinstance(option.envvar, str)
    }
    rows = [f"| `{name}` | `{flag}` | {_unwrapped(said)} |" for name, (flag, said) in sorted(found.items())]
    return ["| environment variable | stands in for | which is |", "|---|---|---|", *rows]


def _unwrapped(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    for path, text in pages().items():
        (DOCS / path).write_text(text)

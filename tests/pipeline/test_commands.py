"""The command line: every command is documented, and every remedy names a command that exists."""

import ast
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import MODULES, cli, complete

ROOT = Path(__file__).parents[2]
complete(cli)


def commands(group: click.Group = cli, prefix: str = "onnxship") -> dict[str, click.Command]:
    """Every command by the words a user types."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        words = f"{prefix} {name}"
        found |= commands(command, words) if isinstance(command, click.Group) else {}
        found[words] = command
    return found


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


def strings(path: Path) -> list[str]:
    """Every string literal of a file, with the variable parts of f-strings as `X`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def mentions(text: str) -> list[str]:
    """The `onnxship ...` commands that stand in backquotes."""
    return re.findall(r"`(onnxship [^`]+)`", text)


def unknown(mention: str) -> str | None:
    """What is wrong with a mentioned command: no such command, or no such option of it."""
    known = commands()
    words = mention.split()
    depth = next((n for n in (3, 2) if " ".join(words[:n]) in known), None)
    if depth is None:
        return f"there is no `{mention}`" if len(words) > 1 and not words[1].startswith("-") else None
    used = {word.partition("=")[0] for word in words[depth:] if word.startswith("--") and word != "--"}
    missing = used - options(known[" ".join(words[:depth])])
    return f"`{mention}` has no {', '.join(sorted(missing))}" if missing else None


@pytest.mark.parametrize("words", commands())
def test_every_command_has_help_with_an_example(words: str) -> None:
    """`--help` says in a sentence what the command does, and shows a call of it."""
    answer = CliRunner().invoke(cli, [*words.split()[1:], "--help"])

    assert 0 == answer.exit_code
    assert "Example:" in answer.output
    assert "onnxship" in answer.output.split("Example:")[1]


@pytest.mark.parametrize("words", [w for w, c in commands().items() if not isinstance(c, click.Group)])
def test_every_option_is_explained(words: str) -> None:
    """No option stands in a help page without a sentence."""
    unexplained = [p.name for p in commands()[words].params if isinstance(p, click.Option) and not p.help]

    assert [] == unexplained


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda path: path.name)
def test_every_command_that_a_message_names_exists(path: Path) -> None:
    """A remedy can be typed as it stands: the command and its options exist."""
    wrong = [unknown(mention) for text in strings(path) for mention in mentions(text)]

    assert [] == [problem for problem in wrong if problem]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "onnxship.yaml"])
def test_every_command_in_the_documents_exists(document: str) -> None:
    """What README and configuration tell a user to type can be typed."""
    text = (ROOT / document).read_text()
    typed = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("onnxship ")]

    assert [] == [problem for mention in [*mentions(text), *typed] if (problem := unknown(mention))]


def test_every_command_is_loaded_by_its_own_name() -> None:
    """A command alone, without the others of the program, is there with all beside it; an unknown word brings all."""
    for names in MODULES.values():
        for name in names:
            alone = click.Group()
            complete(alone, name)
            assert list(names) == list(alone.commands)
    everything = click.Group()
    complete(everything, "shp")
    assert list(cli.commands) == list(everything.commands)


def test_a_remedy_with_an_unknown_command_is_found() -> None:
    """The check itself can fail."""
    assert unknown("onnxship frobnicate") == "there is no `onnxship frobnicate`"
    assert unknown("onnxship ship --frob") == "`onnxship ship --frob` has no --frob"
    assert unknown("onnxship rehearse env") is None


def test_commands_that_change_something_have_a_dry_run() -> None:
    """Each can be asked what it would do."""
    changing = ("bootstrap", "build", "publish", "deploy", "rollout", "alarms", "ship", "rollback", "abort", "destroy")
    changing += ("init", "lock release")

    assert [] == [name for name in changing if "--dry-run" not in options(commands()[f"onnxship {name}"])]


def test_every_command_can_answer_in_json() -> None:
    """`--output json` on every command that answers (serve, rehearse env and rehearse run hand on others' output)."""
    others = {"onnxship serve", "onnxship rehearse env", "onnxship rehearse run"}
    without = [w for w, c in commands().items() if not isinstance(c, click.Group) and "--output" not in options(c)]

    assert set() == set(without) - others

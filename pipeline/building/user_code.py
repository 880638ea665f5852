"""service.py, read before it is shipped: what would otherwise end the first task, or go live without being called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from pipeline.errors import ConfigError

HOOKS = ("startup", "preprocess", "postprocess")
SIMILARITY = 0.85  # difflib's ratio; `preprocess` and `postprocess` themselves are 0.76 alike
EVERYTHING = "*"


def check_user_code(path: Path) -> None:
    """Raise ConfigError when `path` is no Python, defines none of the three hooks, or has one that is misspelt."""
    tree = _parse(path)
    names = set(_names(tree.body))
    for line, name in _functions(tree.body):
        missing = [hook for hook in HOOKS if hook not in names]
        if not name.startswith("_") and (close := get_close_matches(name, missing, 1, SIMILARITY)):
            raise ConfigError(
                f"{path.name}, line {line}: the server never calls `{name}`; did you mean `{close[0]}`?",
                f"rename it `{close[0]}`, or `_{name}` if it is a helper of yours",
            )
    if names.isdisjoint((*HOOKS, EVERYTHING)):
        raise ConfigError(
            f"{path.name} defines none of {', '.join(HOOKS)}: the server would call nothing of it.",
            f"define one of them at the top level of {path.name}, or rename the file",
        )


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=path.name)
    except SyntaxError as error:
        where = f"{path.name}, line {error.lineno}" if error.lineno else path.name
        raise ConfigError(f"{where}: {error.msg}.", f"correct {path}; it is not valid Python") from error
    except ValueError as error:  # a null byte
        raise ConfigError(f"{path.name}: {error}.", f"save {path} as text") from error


def _functions(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and name of every function that the module itself defines, also under an `if` or a `try`."""
    for statement in _statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.lineno, statement.name


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """Every name that the module defines or imports; `*` where it imports everything from another."""
    for statement in _statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and _is_stored(node))


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run in the module's own scope."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for block in (getattr(statement, name, []) for name in ("body", "orelse", "finalbody")):
                yield from _statements(block)
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)

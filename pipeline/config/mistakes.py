"""What is wrong with onnxship.yaml, in our words: a line for each mistake, with the key's path as it stands there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from pipeline.config.schema import Config
from pipeline.config.section import Section
from pipeline.errors import ConfigError

NAME = "a name: a lower-case letter, then lower-case letters, digits and dashes, 20 characters at most"
VARIABLE = "the name of a variable: letters, digits and underscores, no digit first"
# What a key's value looks like, where only a pattern says it; `[key]` is pydantic's word for the key itself.
SHAPES = {
    "account": 'the 12 digits of an AWS account, in quotes: "111122223333"',
    "region": "an AWS region, such as eu-west-1",
    "project": NAME,
    "services.[key]": NAME,
    "environment.[key]": VARIABLE,
    "secrets.[key]": VARIABLE,
    "notify": "an e-mail address",
    "until": "a date: 2027-01-31",
}
LIMITS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "multiple_of": ("multiple_of", "must be a multiple of {}"),
    "string_too_short": ("min_length", "must have {} characters or more"),
}
KINDS = {
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "list": "must be a list: [one, two]",
    "dict": "must hold keys of its own, indented beneath it",
    "model": "must hold keys of its own, indented beneath it",
}


def config_error(path: Path, mistakes: Iterable[str]) -> ConfigError:
    """The error that shows all `mistakes` of the file at `path`."""
    lines = tuple(dict.fromkeys(mistakes))
    return ConfigError(
        f"{path} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}.",
        "correct the lines named above; the commented onnxship.yaml in the documentation shows every key",
        details=lines,
    )


def mistakes_in(error: ValidationError, environment_name: str) -> Iterator[str]:
    """What pydantic found, in our words. Keys of the chosen environment stand under `environments` in the file."""
    for problem in error.errors():
        keys = [str(part) for part in problem["loc"]]
        if keys[:1] == ["environment"]:
            keys = ["environments", environment_name, *keys[1:]]
        if keys[:2] == ["network", "vpc"] and not _is_meant(problem):
            continue
        keys = [key for key in keys if key != "[key]" and not key.startswith("literal[") and key != "ExistingVpc"]
        yield f"{'.'.join(keys) or '(whole file)'}: {_in_words(problem)}"


def unused_keys(services: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the file that would silently do nothing where they stand."""
    for name, service in services.items():
        gate = service.get("gate") if isinstance(service, dict) else None
        if isinstance(gate, dict) and gate.get("runner_cidr") and gate.get("from", "vpc") == "vpc":
            yield (
                f"services.{name}.gate.runner_cidr: does nothing with `from: vpc`, whose requests come from the VPC; "
                "remove it, or set `from: runner` beside it"
            )


def _is_meant(problem: Mapping[str, Any]) -> bool:
    """`network.vpc` is a word or a mapping, and pydantic tells what is wrong with it as both."""
    if problem["type"] == "literal_error":
        return not isinstance(problem["input"], dict)
    return str(problem["type"]) != "model_type"


def _in_words(problem: Mapping[str, Any]) -> str:
    kind, given, context = problem["type"], problem["input"], problem.get("ctx") or {}
    if kind == "extra_forbidden":
        return "is not a known key" + _did_you_mean(problem["loc"])
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ") + _found(given)
    if given is None:
        return "holds nothing; give it a value, or remove the key"
    return _rule(problem, kind, context) + _found(given)


def _rule(problem: Mapping[str, Any], kind: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        allowed = f"must be {context['expected'].replace(chr(39), '`')}"
        return (
            f"{allowed}, or hold vpc_id, private_subnets and public_subnets"
            if problem["loc"][:2] == ("network", "vpc")
            else allowed
        )
    if kind in LIMITS:
        key, words = LIMITS[kind]
        return words.format(f"{context[key]:g}")
    if kind in ("too_short", "too_long"):
        bound, words = ("min_length", "at least") if kind == "too_short" else ("max_length", "at most")
        return f"must have {words} {context[bound]}, and has {context['actual_length']}"
    shape = _shape(problem["loc"])
    if kind == "string_pattern_mismatch" or (kind == "string_type" and shape):
        return f"must be {shape or context.get('pattern')}"
    if kind == "string_type":
        return f"must be text; put it in quotes: '{problem['input']}'"
    return KINDS.get(kind.partition("_")[0]) or str(problem["msg"])


def _shape(location: tuple[int | str, ...]) -> str:
    names = [str(part) for part in location if not isinstance(part, int)]
    key = f"{names[-3]}.[key]" if names[-1] == "[key]" else names[-1]
    return SHAPES.get(key, "")


def _found(given: object) -> str:
    return f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""


def _did_you_mean(location: tuple[int | str, ...]) -> str:
    """The key of the same section that is spelt almost like it."""
    sections: set[type[Section]] = {Config}
    for part in location[:-1]:
        inner = [section for one in sections for section in _sections_of(one, str(part))]
        sections = set(inner) or sections  # the name of a service, or a place in a list
    keys = {field.alias or name for section in sections for name, field in section.model_fields.items()}
    close = get_close_matches(str(location[-1]), keys, 1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _sections_of(section: type[Section], key: str) -> Iterator[type[Section]]:
    for name, field in section.model_fields.items():
        if key in (name, field.alias):
            yield from _sections_within(field.annotation)


def _sections_within(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_within(inner)

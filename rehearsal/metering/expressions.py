"""Metric math: the functions and operators that the rehearsal computes; all others are refused by name.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Points = list[float | None]
"""A time series: one value or None (missing) per period."""
Value = float | Points | tuple[Points, ...]
Evaluate = Callable[["Scope"], Value]

TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|([A-Za-z_]\w*)|(\"[^\"]*\"|'[^']*')|(==|!=|<=|>=|&&|\|\||[-+*/^<>()\[\],]))"
)
END = ""


class CannotEvaluate(Exception):
    """An expression that the rehearsal does not understand; says which part."""


@dataclass
class Scope:
    """What an expression may refer to: the other queries by id, of which `metrics` are metrics themselves.

    `reduces` allows turning one time series into one number, which depends on the range that is asked for.
    """

    look_up: Callable[[str], Value]
    metrics: dict[str, Points]
    reduces: bool


def _quotient(left: float, right: float) -> float | None:
    return left / right if right else None


def _power(base: float, exponent: float) -> float | None:
    try:
        result = base**exponent
    except (ZeroDivisionError, OverflowError):
        return None
    return None if isinstance(result, complex) else result


BINARY: dict[str, Callable[[float, float], float | None]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "^": _power,
    "==": lambda left, right: float(left == right),
    "!=": lambda left, right: float(left != right),
    "<": lambda left, right: float(left < right),
    "<=": lambda left, right: float(left <= right),
    ">": lambda left, right: float(left > right),
    ">=": lambda left, right: float(left >= right),
    "AND": lambda left, right: float(bool(left) and bool(right)),
    "OR": lambda left, right: float(bool(left) or bool(right)),
}
LEVELS = (("OR", "||"), ("AND", "&&"), ("==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/"))
SPELLED = {"||": "OR", "&&": "AND"}


def combine(compute: Callable[[float, float], float | None], left: Value, right: Value) -> Value:
    """A binary operation, point by point; where one side has no data the result has none."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        raise CannotEvaluate("an operator between two arrays of time series")
    if isinstance(left, tuple):
        return tuple(_series(combine(compute, one, right)) for one in left)
    if isinstance(right, tuple):
        return tuple(_series(combine(compute, left, one)) for one in right)
    if isinstance(left, float) and isinstance(right, float):
        result = compute(left, right)
        if result is None:
            raise CannotEvaluate("a division of a number by 0")
        return float(result)
    length = len(left) if isinstance(left, list) else len(_series(right))
    pairs = zip(_spread(left, length), _spread(right, length), strict=True)
    return [None if one is None or other is None else compute(one, other) for one, other in pairs]


def _spread(value: Value, length: int) -> Points:
    return [value] * length if isinstance(value, float) else _series(value)


def _series(value: Value) -> Points:
    if not isinstance(value, list):
        raise CannotEvaluate("a time series is wanted where there is none")
    return value


def _fill(scope: Scope, value: Value, filler: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(_series(_fill(scope, one, filler)) for one in value)
    points = _series(value)
    if filler == (REPEAT,):
        last: float | None = None
        return [last := (point if point is not None else last) for point in points]
    return [
        other if point is None else point for point, other in zip(points, _spread(filler, len(points)), strict=True)
    ]


def _if(scope: Scope, condition: Value, then: Value, otherwise: Value | None = None) -> Value:
    """The doc's IF: with a time series as condition, point by point; without a third argument, missing."""
    if isinstance(condition, float):
        chosen = then if condition else otherwise
        if chosen is None:
            raise CannotEvaluate("IF of a number without a third argument")
        return chosen
    points = _series(condition)
    left = _spread(then, len(points))
    right: Points = [None] * len(points) if otherwise is None else _spread(otherwise, len(points))
    return [None if met is None else (left[at] if met else right[at]) for at, met in enumerate(points)]


def _aggregate(name: str, compute: Callable[[list[float]], float]) -> Callable[..., Value]:
    def aggregate(scope: Scope, value: Value) -> Value:
        if isinstance(value, tuple):
            present = ([point for point in points if point is not None] for points in zip(*value, strict=True))
            return [compute(points) if points else None for points in present]
        if not scope.reduces:
            raise CannotEvaluate(f"{name} of one time series in an alarm (use {name}([m1, m2]))")
        real = [point for point in _series(value) if point is not None]
        return float(compute(real)) if real else 0.0

    return aggregate


def _pointwise(compute: Callable[[float], float]) -> Callable[..., Value]:
    def apply(scope: Scope, value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(_series(apply(scope, one)) for one in value)
        if isinstance(value, float):
            return float(compute(value))
        return [None if point is None else float(compute(point)) for point in value]

    return apply


def _metrics(scope: Scope, part: Value = ()) -> Value:
    wanted = part[0] if isinstance(part, tuple) and part else ""
    return tuple(points for name, points in scope.metrics.items() if str(wanted) in name)


REPEAT: Any = "REPEAT"
FUNCTIONS: dict[str, Callable[..., Value]] = {
    "FILL": _fill,
    "IF": _if,
    "SUM": _aggregate("SUM", math.fsum),
    "AVG": _aggregate("AVG", lambda points: math.fsum(points) / len(points)),
    "MIN": _aggregate("MIN", min),
    "MAX": _aggregate("MAX", max),
    "ABS": _pointwise(abs),
    "CEIL": _pointwise(math.ceil),
    "FLOOR": _pointwise(math.floor),
    "METRICS": _metrics,
}


def parse(text: str) -> Evaluate:
    """The function that computes the expression, or CannotEvaluate with what is not understood."""
    if re.match(r"\s*(SELECT|SEARCH)\b", text):
        raise CannotEvaluate(text.split(maxsplit=1)[0])
    return _Parser(text).whole()


class _Parser:
    """Recursive descent: one method per level of precedence."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)

    def whole(self) -> Evaluate:
        """All of the text as one expression."""
        evaluate = self._binary(0)
        if self._tokens[0] != END:
            raise CannotEvaluate(f"'{self._tokens[0]}'")
        return evaluate

    def _take(self, wanted: str) -> None:
        if self._tokens[0] != wanted:
            raise CannotEvaluate(f"'{self._tokens[0] or 'the end'}' where '{wanted}' is wanted")
        self._tokens.pop(0)

    def _binary(self, level: int) -> Evaluate:
        if level == len(LEVELS):
            return self._power()
        left = self._binary(level + 1)
        while self._tokens[0] in LEVELS[level]:
            symbol = self._tokens.pop(0)
            left = _operation(BINARY[SPELLED.get(symbol, symbol)], left, self._binary(level + 1))
        return left

    def _power(self) -> Evaluate:
        if self._tokens[0] == "-":
            self._tokens.pop(0)
            return _operation(operator.sub, lambda scope: 0.0, self._power())
        base = self._atom()
        if self._tokens[0] == "^":
            self._tokens.pop(0)
            return _operation(_power, base, self._power())
        return base

    def _atom(self) -> Evaluate:
        if self._tokens[0] == END:
            raise CannotEvaluate("the end of the expression")
        token = self._tokens.pop(0)
        if token == "(":  # noqa: S105 - a bracket
            inner = self._binary(0)
            self._take(")")
            return inner
        if token == "[":  # noqa: S105 - a bracket
            parts = self._list("]")
            return lambda scope: tuple(_series(part(scope)) for part in parts)
        if token[:1].isdigit():
            number = float(token)
            return lambda scope: number
        if token[0] in "\"'":
            word: Any = (token[1:-1],)
            return lambda scope: word
        if token == "REPEAT":  # noqa: S105 - a word of FILL
            return lambda scope: (REPEAT,)
        if self._tokens[0] == "(":
            return self._call(token)
        if not token[:1].isalpha():
            raise CannotEvaluate(f"'{token}'")
        return lambda scope: scope.look_up(token)

    def _call(self, name: str) -> Evaluate:
        if name not in FUNCTIONS:
            raise CannotEvaluate(f"the function {name} (there are {', '.join(FUNCTIONS)})")
        self._take("(")
        function, arguments = FUNCTIONS[name], self._list(")")

        def call(scope: Scope) -> Value:
            try:
                return function(scope, *(argument(scope) for argument in arguments))
            except TypeError as error:
                raise CannotEvaluate(f"the arguments of {name}") from error

        return call

    def _list(self, end: str) -> list[Evaluate]:
        parts: list[Evaluate] = []
        while self._tokens[0] != end:
            parts.append(self._binary(0))
            if self._tokens[0] != end:
                self._take(",")
        self._take(end)
        return parts


def _operation(compute: Callable[[float, float], float | None], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda scope: combine(compute, left(scope), right(scope))


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            raise CannotEvaluate(f"'{text[place:].strip()}'")
        tokens.append(found[0].strip())
        place = found.end()
    return [*tokens, END]

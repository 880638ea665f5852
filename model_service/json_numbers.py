"""JSON arrays of numbers as numpy arrays, without a Python object for each number."""

from __future__ import annotations

import contextvars
import re
import secrets
import threading
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from simdjson import Array, Parser

CUT_FROM_BYTES = 16 * 1024
DATA = b'"data"'
NOT_FLAT = (b'"', b"[", b"{")
OPENS_ARRAY = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
MARK = secrets.token_hex(16).encode()  # nobody who sends a request knows it


class _Own(threading.local):
    """What each thread has for itself: a parser, which keeps its memory and reads one document at a time, and a context
    in which numpy raises. numpy.errstate makes such a context for each use: that takes as long as reading a row."""

    def __init__(self) -> None:
        self.parser = Parser()
        self.strict = contextvars.Context()
        self.strict.run(np.seterr, over="raise")


_own = _Own()


def read_numbers(data: msgspec.Raw) -> NDArray[np.float64] | None:
    """The flat JSON array of numbers in `data`; None if it is anything else, or a number in it does not fit 64 bits.

    None says nothing of what is wrong: whoever reads such `data` another way finds that out.
    """
    content = bytes(data)
    if content.find(b"[", 1) != -1:  # simdjson would flatten arrays within it, whatever their lengths
        return None
    try:
        document = _own.parser.parse(content)
        return np.frombuffer(document.as_buffer(of_type="d"), np.float64) if isinstance(document, Array) else None
    except (ValueError, TypeError, RuntimeError):  # no JSON; no number; too large a number
        return None


def narrowed(numbers: NDArray[np.float64], kind: np.dtype[Any]) -> NDArray[Any]:
    """`numbers` in the type that is wanted. Raises FloatingPointError for one that it cannot hold."""
    return _own.strict.run(numbers.astype, kind, copy=False)


def cut_out(content: bytes, from_bytes: int = CUT_FROM_BYTES) -> tuple[bytes, dict[bytes, bytes]]:
    """`content`, JSON, with a mark in the place of each flat array of `from_bytes` or more that is a member `data`, and
    the arrays by their marks: JSON strings. Where a caller has arrays, the rest need not be looked at byte by byte.

    What was no JSON before is none afterwards, but for what stands in the arrays themselves: in JSON `"data"` before a
    colon is a key wherever it stands, and from a bracket to the next one without a quote or another bracket in between
    is an array.
    """
    if len(content) < from_bytes:
        return content, {}
    parts: list[bytes] = []
    arrays: dict[bytes, bytes] = {}
    begin = at = 0
    while (at := content.find(DATA, at)) != -1:
        opens = OPENS_ARRAY.match(content, at)
        if not opens or content[at - 1 : at] == b"\\":
            at += len(DATA)
            continue
        start, at = opens.end(), content.find(b"]", opens.end()) + 1
        if not at:
            break
        if at - start < from_bytes or any(content.find(mark, start + 1, at) != -1 for mark in NOT_FLAT):
            continue
        mark = b'"%b%d"' % (MARK, len(arrays))
        arrays[mark] = content[start:at]
        parts += (content[begin:start], mark)
        begin = at
    return (b"".join((*parts, content[begin:])), arrays) if arrays else (content, {})

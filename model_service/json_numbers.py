"""JSON arrays of numbers as numpy arrays, without a Python object for each number."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
from numpy.typing import NDArray
from simdjson import Array, Parser


class _Parsers(threading.local):
    """A parser for each thread: it keeps its memory, and reads one document at a time."""

    def __init__(self) -> None:
        self.parser = Parser()


_parsers = _Parsers()


def read_numbers(data: msgspec.Raw) -> NDArray[np.float64] | None:
    """The flat JSON array of numbers in `data`; None if it is anything else, or a number in it does not fit 64 bits.

    None says nothing of what is wrong: whoever reads such `data` another way finds that out.
    """
    content = bytes(data)
    if content.find(b"[", 1) != -1:  # simdjson would flatten arrays within it, whatever their lengths
        return None
    try:
        document = _parsers.parser.parse(content)
        return np.frombuffer(document.as_buffer(of_type="d"), np.float64) if isinstance(document, Array) else None
    except (ValueError, TypeError, RuntimeError):  # no JSON; no number; too large a number
        return None

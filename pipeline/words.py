"""Words for people: numbers with the right form of what they count."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`; `many` where an s alone does not do it: `counted(2, "file is", "files are")`."""
    return f"{count} {one if count == 1 else many or one + 's'}"

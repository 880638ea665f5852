"""multipart/form-data, read with python-multipart from a body that is already here.

https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from model_service.errors import RequestRefused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16


@dataclass(slots=True)
class Form:
    """The content of the parts that are files, in order, and of the other ones by name."""

    files: list[bytes] = field(default_factory=list)
    fields: dict[str, bytes] = field(default_factory=dict)


def read_form(body: bytes, content_type: str, *, max_files: int) -> Form:
    """The form in `body`; a part with a file name is a file. Raises RequestRefused(400)."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RequestRefused(400, "the Content-Type multipart/form-data has no boundary")
    reader = _Reader(max_files)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestRefused(400, "the body is no multipart/form-data with the boundary of its Content-Type") from error
    if not reader.is_complete:
        raise RequestRefused(400, "the form ends too early: its last boundary is missing")
    return reader.form


class _Reader:
    """python-multipart's callbacks; a header's name and a part's content may come in pieces."""

    def __init__(self, max_files: int) -> None:
        self.form = Form()
        self.is_complete = False
        self._max_files = max_files
        self._name, self._value = b"", b""
        self._disposition = b""
        self._content: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._disposition, self._content = b"", []

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _on_part_end(self) -> None:
        kind, options = parse_options_header(self._disposition.decode("latin-1"))
        if kind != b"form-data" or b"name" not in options:
            raise RequestRefused(400, "a part of the form has no Content-Disposition: form-data with a name")
        content = b"".join(self._content)
        if b"filename" in options:
            self.form.files.append(content)
        else:
            self.form.fields[options[b"name"].decode(errors="replace")] = content
        if len(self.form.files) > self._max_files or len(self.form.fields) > MAX_FIELDS:
            raise RequestRefused(
                400, f"the form has too many parts; at most {self._max_files} files are taken, and {MAX_FIELDS} fields"
            )

    def _on_end(self) -> None:
        self.is_complete = True

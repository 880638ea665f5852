"""Bodies that are compressed: gzip and deflate, as the protocol's clients send and ask for them.

https://www.rfc-editor.org/rfc/rfc9110#name-content-codings (deflate is the zlib format)
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from model_service.errors import RequestRefused
from model_service.scheduling.job import Answer, Inputs, Work
from model_service.tensors import Array

WINDOW_BITS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
ACCEPTED = ", ".join(name.decode() for name in WINDOW_BITS)
# Smaller answers fit one packet as they are.
COMPRESS_FROM_BYTES = 1400
FAST = 1


class Body(msgspec.Struct, frozen=True, gc=False):
    """A request's body as it came; `encoding` is its Content-Encoding. Read where the model runs."""

    data: bytes
    encoding: bytes
    max_bytes: int

    def read(self) -> bytes:
        """The content, decompressed. Raises RequestRefused: 413 when it is larger than `max_bytes`."""
        if self.encoding in (b"", b"identity"):
            return self.data
        window_bits = WINDOW_BITS.get(self.encoding)
        if window_bits is None:
            name = self.encoding.decode("latin-1")
            raise RequestRefused(415, f"Content-Encoding `{name}` is not supported; send {ACCEPTED}, or none")
        try:
            return _decompress(self.data, window_bits, self.max_bytes)
        except zlib.error as error:
            words = f"the body is no intact {self.encoding.decode()}, which its Content-Encoding says it is"
            raise RequestRefused(400, words) from error


class CompressedAnswer:
    """`work`, whose answer is compressed where that pays."""

    __slots__ = ("_encoding", "_work")

    def __init__(self, work: Work, encoding: bytes) -> None:
        self._work = work
        self._encoding = encoding

    def read(self) -> Inputs:
        """The request's inputs."""
        return self._work.read()

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer, compressed."""
        answer = self._work.write(outputs, compute_s)
        if len(answer.body) < COMPRESS_FROM_BYTES:
            return answer
        compressor = zlib.compressobj(FAST, wbits=WINDOW_BITS[self._encoding])
        body = compressor.compress(answer.body) + compressor.flush()
        return Answer(body, answer.content_type, answer.json_length, self._encoding)


def chosen_encoding(accept_encoding: bytes) -> bytes | None:
    """The encoding for an answer that may be sent as `accept_encoding` says; None for none.

    Of weights only q=0, a refusal, is heeded: https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding
    """
    offered = {}
    for item in accept_encoding.lower().split(b","):
        name, _, weight = item.partition(b";")
        offered[name.strip()] = weight.replace(b" ", b"")
    refused = (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return next((name for name in WINDOW_BITS if name in offered and offered[name] not in refused), None)


def _decompress(data: bytes, window_bits: int, max_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(window_bits)
    content = decompressor.decompress(data, max_bytes)
    if decompressor.unconsumed_tail or (not decompressor.eof and len(content) == max_bytes):
        raise RequestRefused(413, f"the body is larger than {max_bytes} bytes when it is decompressed")
    if not decompressor.eof:
        raise RequestRefused(400, "the compressed body is cut off")
    if decompressor.unused_data:
        raise RequestRefused(400, "the compressed body has bytes after its end")
    return content

"""API keys: who may ask what. Their hashes come from a file or a secret, and are read again while the service runs.

    {"keys": [{"id": "mobile-app", "sha256": "<of the key, 64 hex digits>", "scopes": ["infer"]}, ...]}

A key is sent as `Authorization: Bearer KEY` or `X-Api-Key: KEY`, for a WebSocket also as the subprotocol `bearer.KEY`.
The gates of a release send what they have, `X-Onnxship-Gate: SECRET`; GATE_KEY_SHA256 makes it a key for inference.
Keys are random and long, so a plain hash hides them.
`python -m model_service.api_keys ID [SCOPE ...]` makes a key, and prints it with its entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from model_service.errors import RequestRefused, StartRefused
from model_service.settings import Settings

Scope = Literal["infer", "admin"]
KEY_BYTES = 32
SUBPROTOCOL = b"bearer."
GATE_HEADER, GATE_ID = b"x-onnxship-gate", "onnxship-gate"

logger = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key: what it is called in the log, its hash, and what it may be used for."""

    id: Annotated[str, Meta(pattern=r"^[0-9A-Za-z._-]{1,64}\Z")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: tuple[Scope, ...] = ("infer",)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file, or the secret."""

    keys: list[Entry]


class ApiKeys:
    """The keys that are good now: those of the document, whose text `read` brings, and the gates', if they have one."""

    def __init__(self, read: Callable[[], str], gate_key_sha256: str = "") -> None:
        self._read = read
        self._of_gates = [Entry(GATE_ID, gate_key_sha256)] if gate_key_sha256 else []
        self._entries: dict[bytes, Entry] = {}

    def load(self) -> None:
        """Read the keys. Raises StartRefused with what is wrong, and then changes nothing."""
        try:
            document = msgspec.json.decode(self._read(), type=Document)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise StartRefused(f"the API keys cannot be read: {error}") from error
        entries = [*self._of_gates, *document.keys]
        if len({entry.id for entry in entries}) < len(entries):
            raise StartRefused(f"the API keys cannot be read: an id stands there twice, or is `{GATE_ID}`")
        self._entries = {bytes.fromhex(entry.sha256): entry for entry in entries}

    def reload(self) -> None:
        """Read the keys again; those of before stay good while that fails, and the log says so."""
        before = self._entries
        try:
            self.load()
        except StartRefused as error:
            logger.error("%s; the %d keys of before stay good", error, len(before) - len(self._of_gates))
            return
        if before != self._entries:
            logger.info("API keys changed: %s", ", ".join(sorted(entry.id for entry in self._entries.values())))
            self.warn_if_none()

    def warn_if_none(self) -> None:
        """A document without a key is a good one, but seldom meant."""
        if len(self._entries) == len(self._of_gates):
            logger.warning("no API key is good now: every request is refused but health probes")

    def holder(self, headers: Mapping[bytes, bytes], scope: Scope) -> str | None:
        """The id of the key in `headers`, if there is one that is good for `scope`."""
        entry = self._entry(headers)
        return entry.id if entry and scope in entry.scopes else None

    def require(self, headers: Mapping[bytes, bytes], scope: Scope, *, where: str) -> None:
        """Raises RequestRefused: 401 without a good key, with words that say `where` it stands, and 403 with one of
        another scope."""
        entry = self._entry(headers)
        if entry is None:
            raise RequestRefused(401, f"a good API key is needed, {where}")
        if scope not in entry.scopes:
            has = " and ".join(f"`{name}`" for name in entry.scopes) or "none"
            raise RequestRefused(403, f"an API key of scope `{scope}` is needed; that of `{entry.id}` has {has}")

    def _entry(self, headers: Mapping[bytes, bytes]) -> Entry | None:
        key = headers.get(b"x-api-key") or _bearer(headers) or headers.get(GATE_HEADER)
        # Found by its hash: how long that takes says nothing of the key.
        return None if key is None else self._entries.get(hashlib.sha256(key.strip()).digest())


def _bearer(headers: Mapping[bytes, bytes]) -> bytes | None:
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return key
    # Browsers let a page set no header of a WebSocket, but its subprotocols; in the address the key would be logged.
    offered = (name.strip() for name in headers.get(b"sec-websocket-protocol", b"").split(b","))
    return next((name.removeprefix(SUBPROTOCOL) for name in offered if name.startswith(SUBPROTOCOL)), None)


def open_api_keys(settings: Settings) -> ApiKeys | None:
    """The keys that the settings name, read; None where there are none to be asked for. Raises StartRefused."""
    if settings.api_keys_file:
        keys = ApiKeys(Path(settings.api_keys_file).read_text, settings.gate_key_sha256)
    elif settings.api_keys_secret_arn:
        keys = ApiKeys(lambda: _read_secret(settings.api_keys_secret_arn), settings.gate_key_sha256)
    else:
        return None
    keys.load()
    keys.warn_if_none()
    return keys


def _read_secret(arn: str) -> str:
    from model_service.store.secrets import read_secret  # brings boto3

    return read_secret(arn)


def main(words: list[str]) -> int:
    """Make a key; the exit status."""
    if not words or words[0].startswith("-"):
        sys.stderr.write("usage: python -m model_service.api_keys ID [infer] [admin]\n")
        return 2
    key = secrets.token_urlsafe(KEY_BYTES)
    entry = {"id": words[0], "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": words[1:] or ["infer"]}
    try:
        msgspec.convert(entry, Entry)
    except msgspec.ValidationError as error:
        sys.stderr.write(f"no key was made: {error}\n")
        return 2
    sys.stderr.write(f'The key, to be given to its holder (it is stored nowhere): {key}\nIts entry under "keys":\n')
    sys.stdout.write(json.dumps(entry) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

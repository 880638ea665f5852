"""How long a connection is waited for in the middle of a request; uvicorn itself would wait for ever."""

from __future__ import annotations

from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def patient_protocol(read_timeout_s: float) -> type[PatientProtocol]:
    """The protocol class for uvicorn's configuration, which makes an object of it for each connection."""
    return type("BoundPatientProtocol", (PatientProtocol,), {"read_timeout_s": read_timeout_s})


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, closed when it is silent for `read_timeout_s` within a request."""

    read_timeout_s: float
    is_within_message = False
    stall: TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._stop_waiting()
        if self.is_within_message and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        self.is_within_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self.is_within_message = False
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Only for what can become a WebSocket; whatever else asks for it is an ordinary request."""
        is_idle = self.cycle is None or self.cycle.response_complete
        return is_idle and self.parser.get_method() == b"GET" and super()._should_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        # While reading is paused, because what came before is being worked on, the silence is ours: then look again.
        then = self._wait if self.flow.read_paused else self.transport.abort
        self.stall = self.loop.call_later(self.read_timeout_s, then)

    def _stop_waiting(self) -> None:
        if self.stall is not None:
            self.stall.cancel()
            self.stall = None

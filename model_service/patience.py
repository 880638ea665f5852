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
        # While reading is paused, because the request before is being answered, the silence is ours.
        if self.is_within_message and not self.flow.read_paused and not self.transport.is_closing():
            self.stall = self.loop.call_later(self.read_timeout_s, self.transport.abort)

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

    def _stop_waiting(self) -> None:
        if self.stall is not None:
            self.stall.cancel()
            self.stall = None

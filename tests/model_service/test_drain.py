"""SIGTERM under load: no request fails."""

import http.client
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_service.conftest import Launch, Service, addition, write_manifest

BODY = b'{"input": {"a": [1, 2], "b": [3, 4]}}'


class Callers:
    """Callers that keep their connections, send one request after the other, and open a new connection only when the
    service has said `Connection: close`, as a load balancer does. They end when a connection is refused."""

    def __init__(self, service: Service, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.closes = 0
        self._port = service.ports["port"]
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        for connection in self._connections():
            try:
                while self._ask(connection):
                    pass
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[repr(error)] += 1
            finally:
                connection.close()

    def _connections(self) -> Iterator[http.client.HTTPConnection]:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            yield connection

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """One request; whether there may be another over this connection."""
        connection.request("POST", "/predict", BODY)
        response = connection.getresponse()
        response.read()
        self.outcomes[str(response.status)] += 1
        closes = response.getheader("connection") == "close"
        self.closes += closes
        return not closes


@pytest.mark.parametrize("hot_path", ["on", "off"])
@pytest.mark.parametrize("drain_s", ["0", "1.5"])
def test_no_request_fails_at_sigterm(launch: Launch, tmp_path: Path, hot_path: str, drain_s: str) -> None:
    """16 callers that keep their connections, never pause, and stop only when connections are refused: every request
    that was sent is answered with 200, and the process exits 0."""
    manifest = write_manifest(tmp_path, addition())
    service = launch(manifest, DRAIN_S=drain_s, HOT_PATH=hot_path).wait_ready()
    callers = Callers(service, 16)
    service.wait_until(lambda: callers.outcomes["200"] > 200, "under load")
    assert 0 == callers.closes
    service.process.send_signal(signal.SIGTERM)
    callers.join()
    assert {"200"} == set(callers.outcomes), callers.outcomes
    assert callers.closes > 0
    assert 0 == service.process.wait(30)

"""A connection, byte by byte: what a caller may send that no client would."""

import json
import socket

from tests.model_service.conftest import Service

ROW = json.dumps({"input": [0.0] * 64}).encode()


def request(body: bytes = ROW, path: str = "/predict", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """A connection, and the answers that come over it."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.create_connection(("127.0.0.1", service.ports["port"]), timeout=20)
        self.received = self.socket.makefile("rb")

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        status = int(self.received.readline().split()[1])
        headers = {}
        while line := self.received.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self.received.read(int(headers.get("content-length", "0")))

    def is_closed(self) -> bool:
        """Whether the other side ends the connection without another byte."""
        try:
            return self.received.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.received.close()
        self.socket.close()

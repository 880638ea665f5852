"""The container's health check: exits 0 if the service lives. Standard library only: it runs every few seconds."""

import http.client
import os
import sys

TIMEOUT_S = 4


def is_live(host: str, port: int) -> bool:
    """Whether GET /v2/health/live is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    bind_host = os.environ.get("BIND_HOST", "")
    host = "127.0.0.1" if bind_host in ("", "0.0.0.0") else bind_host  # noqa: S104 - compared, not bound
    sys.exit(0 if is_live(host, int(os.environ.get("PORT") or "8080")) else 1)

"""The one port of the local AWS: AWS's own API, and beside it what only a rehearsal can tell, under /_rehearsal/."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

from rehearsal.context import LOOPBACK
from rehearsal.not_rehearsed import NotRehearsed, error, identify
from rehearsal.outage import Outages

OWN = "/_rehearsal/"


class FrontDoor:
    """A WSGI application: own pages by method and name, AWS for all the rest, and nothing but loopback names.

    `names`: under these, too, it is AWS, but has no own pages: they are for tasks, which may not steer the rehearsal.
    A page takes the request's JSON (None without a body) and gives JSON; a str goes out as it is. ValueError is the
    caller's mistake (400).
    """

    def __init__(self, aws: Callable[..., Iterable[bytes]], names: Collection[str] = ()) -> None:
        self._aws, self._names = aws, names
        self._pages: dict[tuple[str, str], Callable[[Any], Any]] = {}

    def add(self, method: str, name: str, page: Callable[[Any], Any]) -> None:
        """Answer `method /_rehearsal/<name>` with what `page` gives."""
        self._pages[method, name] = page

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host, is_own = environ.get("HTTP_HOST", ""), environ.get("PATH_INFO", "").startswith(OWN)
        if not is_loopback(host) and (is_own or name_of(host) not in self._names):
            # A name that another machine or a web page chose must not reach the local AWS (DNS rebinding).
            answer = _json({"error": "The local AWS answers to loopback names only."}, 403)
        elif is_own:
            answer = self._own(Request(environ))
        else:
            return self._aws(environ, start_response)
        return answer(environ, start_response)

    def _own(self, request: Request) -> Response:
        page = self._pages.get((request.method, request.path.removeprefix(OWN)))
        if page is None:
            known = ", ".join(sorted(f"{method} {OWN}{name}" for method, name in self._pages))
            return _json({"error": f"No such page. There are: {known}"}, 404)
        try:
            given = json.loads(request.get_data()) if request.content_length else None
            answer = page(given)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        return Response(answer, mimetype="text/plain") if isinstance(answer, str) else _json(answer, 200)


class Dispatcher(DomainDispatcherApplication):  # type: ignore[misc]
    """moto's choice of a service by the request's signature; a service that moto lacks is said to be missing.

    A choice is kept: moto looks through its own folder and all its patterns for each.
    """

    def __init__(self, create_app: Callable[[Any], Any]) -> None:
        super().__init__(create_app)
        self._chosen: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._chosen:
            self._chosen[host] = self._choose(host)
        return self._chosen[host]

    def _choose(self, host: str | None) -> Any:
        is_aws = host is not None and host.endswith((".amazonaws.com", ".api.aws"))
        if is_aws and not any(pattern.match(f"http://{host}") for _, pattern in self.backend_url_patterns):
            raise NotImplementedError(f"there is no {host} here")
        return super().get_backend_for_host(host)


class WhileUp:
    """A WSGI application whose services may be switched off: then they answer as an AWS service in trouble does.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonErrors.html (ServiceUnavailable; SDKs try it again)
    """

    def __init__(self, aws: Callable[..., Iterable[bytes]], outages: Outages) -> None:
        self._aws, self._outages = aws, outages

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = identify(environ)
        if not self._outages.is_off(call.service):
            return self._aws(environ, start_response)
        # What was sent is read all the same: on a connection that is kept the next request comes after it.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        told = f"{call.service} is switched off in this rehearsal."
        status, headers, body = error(call, 503, "ServiceUnavailable", told)
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body


class ApiServer:
    """moto behind the front door, answering in threads on a free loopback port."""

    def __init__(self, outages: Outages, names: Collection[str] = ()) -> None:
        self.gaps = NotRehearsed(Dispatcher(create_backend_app))
        self.door = FrontDoor(WhileUp(self.gaps, outages), names)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Begin to answer; gives the endpoint's URL."""
        self._server = make_server(LOOPBACK, 0, self.door, threaded=True, request_handler=MotoRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws-api", daemon=True)
        self._thread.start()
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def stop(self) -> None:
        """Stop answering; requests that are being answered end with the process."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def name_of(host: str) -> str:
    """A host header without its port."""
    return urlsplit(f"//{host}").hostname or ""


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1, localhost and names below it, with or without a port."""
    name = name_of(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _json(content: Any, status: int) -> Response:
    return Response(json.dumps(content, default=str), status=status, mimetype="application/json")

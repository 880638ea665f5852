"""API keys over real HTTP: who is let in, who is not, and how keys change while the service runs."""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_service.api_keys import ApiKeys
from model_service.errors import StartRefused
from tests.model_service.conftest import REPOSITORY, Launch, Service, addition, send, write_manifest

BODY = {"input": {"a": [1, 2], "b": [3, 4]}}


def entry(name: str, key: str, *scopes: str) -> dict[str, Any]:
    return {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": list(scopes)}


def write_keys(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text(json.dumps({"keys": entries}))


@pytest.fixture(scope="module")
def keys_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def guarded(launch: Launch, tmp_path_factory: pytest.TempPathFactory, keys_path: Path, hot_path: str) -> Service:
    write_keys(
        keys_path,
        entry("app", "k-app", "infer"),
        entry("ops", "k-ops", "infer", "admin"),
        entry("root", "k-root", "admin"),
    )
    manifest = write_manifest(tmp_path_factory.mktemp("guarded"), addition())
    gate = {"GATE_KEY_SHA256": hashlib.sha256(b"sesame").hexdigest()}
    environment = {"API_KEYS_FILE": str(keys_path), "API_KEYS_RELOAD_S": "0.1", "HOT_PATH": hot_path} | gate
    return launch(manifest, **environment).wait_ready()


@pytest.mark.parametrize("path", ["/predict", "/v2/models/tiny/infer"])
@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, True),
        ({"X-Api-Key": "wrong"}, True),
        ({"Authorization": "Basic k-app"}, True),
        ({"Authorization": "Bearer"}, True),
        ({"Authorization": "Bearer k-app"}, False),
        ({"authorization": "bearer k-ops"}, False),
        ({"X-Api-Key": "k-app"}, False),
        ({"X-Onnxship-Gate": "sesame"}, False),
        ({"X-Onnxship-Gate": "k-other"}, True),
    ],
)
def test_lets_in_who_has_a_key(guarded: Service, path: str, headers: dict[str, str], is_refused: bool) -> None:
    """Without a good key every request is 401 with {"error"}, before its body is looked at."""
    reply = guarded.post(path, {}, headers)
    assert (401 if is_refused else 400) == reply.status
    if is_refused:
        assert "Bearer" == reply.headers["www-authenticate"]
        assert "a good API key is needed" in reply.json["error"]


def test_health_needs_no_key(guarded: Service) -> None:
    """The load balancer and the container's health check have none; metadata and documentation want one."""
    assert [200, 200] == [guarded.get(f"/v2/health/{probe}").status for probe in ("live", "ready")]
    assert {401} == {guarded.get(path).status for path in ("/v2", "/docs", "/openapi.json", "/v2/models/tiny")}


def test_a_browser_may_look_at_the_documentation(guarded: Service) -> None:
    """It is asked for a name and a password, which is the key; where requests cost something that is not enough."""

    def basic(key: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()}

    pages = ("/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json")
    for path in pages:
        assert guarded.get(path).headers["www-authenticate"].startswith("Basic realm=")
        assert 200 == guarded.request("GET", path, None, basic("k-app")).status
        assert 200 == guarded.request("GET", path, None, {"X-Api-Key": "k-app"}).status
        refused = (basic("wrong"), {"Authorization": "Basic k-app"}, {"Authorization": "Basic !"})
        assert {401} == {guarded.request("GET", path, None, headers).status for headers in refused}
    assert 401 == guarded.post("/predict", BODY, basic("k-app")).status
    assert 401 == guarded.request("GET", "/v2/models/tiny", None, basic("k-app")).status


@pytest.mark.parametrize("path", ["/predict", "/v2/models/tiny/infer"])
def test_a_key_of_another_scope_is_told_which_it_takes(guarded: Service, path: str) -> None:
    """403 and not 401: the key is known, but not for this."""
    reply = guarded.post(path, BODY, {"X-Api-Key": "k-root"})
    words = "an API key of scope `infer` is needed; that of `root` has `admin`"
    assert (403, {"error": words}) == (reply.status, reply.json)
    assert "www-authenticate" not in reply.headers


def test_the_admin_port_wants_an_admin(guarded: Service) -> None:
    """/metrics is open on the port that nothing exposes; anything else there needs a key of scope admin."""
    port = guarded.ports["admin_port"]
    assert 200 == send(port, "GET", "/metrics").status
    assert 401 == send(port, "POST", "/v2/repository/index", b"").status
    reply = send(port, "POST", "/v2/repository/index", b"", {"X-Api-Key": "k-app"})
    words = "an API key of scope `admin` is needed; that of `app` has `infer`"
    assert (403, {"error": words}) == (reply.status, reply.json)
    assert 200 == send(port, "POST", "/v2/repository/index", b"", {"X-Api-Key": "k-ops"}).status


def test_keys_change_without_a_restart(guarded: Service, keys_path: Path) -> None:
    """A new key is good, and a withdrawn one bad, a moment after the file says so; a broken file changes nothing."""
    before = keys_path.read_text()
    write_keys(keys_path, entry("new", "k-new", "infer"))
    guarded.wait_until(lambda: guarded.post("/predict", BODY, {"X-Api-Key": "k-new"}).status == 200, "taken")
    assert 401 == guarded.post("/predict", BODY, {"X-Api-Key": "k-app"}).status
    keys_path.write_text("{")
    guarded.wait_until(lambda: "the 1 keys of before stay good" in guarded.log_path.read_text(), "complained")
    assert 200 == guarded.post("/predict", BODY, {"X-Api-Key": "k-new"}).status
    keys_path.write_text(before)
    guarded.wait_until(lambda: guarded.post("/predict", BODY, {"X-Api-Key": "k-app"}).status == 200, "taken back")
    assert "k-new" not in guarded.log_path.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the API keys cannot be read"),
        ('{"keys": [{"id": "a", "sha256": "k"}]}', "$.keys[0].sha256"),
        (json.dumps({"keys": [entry("a", "k", "root")]}), "Invalid enum value 'root'"),
        (json.dumps({"keys": [entry("a", "k", "infer"), entry("a", "l", "infer")]}), "an id stands there twice"),
        (json.dumps({"keys": [entry("a", "k", "infer") | {"key": "secret"}]}), "unknown field `key`"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(text: str, words: str) -> None:
    """A document with a fault in it is refused whole, by its place."""
    with pytest.raises(StartRefused) as refused:
        ApiKeys(lambda: text).load()
    assert words in str(refused.value)


def test_a_service_without_its_keys_does_not_start(launch: Launch, tmp_path: Path) -> None:
    """Keys that are asked for and not there end the process: it must not serve everybody."""
    service = launch(write_manifest(tmp_path, addition()), API_KEYS_FILE=str(tmp_path / "missing"))
    assert 1 == service.process.wait(30)
    assert "the API keys cannot be read" in service.log()[-1]["message"]


def test_no_key_at_all_is_warned_of(launch: Launch, tmp_path: Path) -> None:
    """A document without a key shuts everybody out, which the log says, at the start and when it becomes so."""
    path = tmp_path / "keys.json"
    write_keys(path)
    environment = {"API_KEYS_FILE": str(path), "API_KEYS_RELOAD_S": "0.1"}
    service = launch(write_manifest(tmp_path / "m", addition()), **environment).wait_ready()

    def warnings() -> int:
        return sum(line["message"].startswith("no API key is good now") for line in service.log())

    assert (1, 401) == (warnings(), service.post("/predict", BODY, {"X-Api-Key": "k"}).status)
    write_keys(path, entry("app", "k", "infer"))
    service.wait_until(lambda: service.post("/predict", BODY, {"X-Api-Key": "k"}).status == 200, "taken")
    write_keys(path)
    service.wait_until(lambda: warnings() == 2, "warned")
    assert 0 == service.stop()


def test_makes_a_key() -> None:
    """`python -m model_service.api_keys` prints a key for its holder, and an entry that this key opens."""
    command = [sys.executable, "-m", "model_service.api_keys", "app", "infer"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    key = ran.stderr.splitlines()[0].rpartition(" ")[2]
    keys = ApiKeys(lambda: json.dumps({"keys": [json.loads(ran.stdout)]}))
    keys.load()
    assert ("app", None) == (keys.holder({b"x-api-key": key.encode()}, "infer"), keys.holder({}, "infer"))

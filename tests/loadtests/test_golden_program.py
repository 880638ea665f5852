"""`python -m loadtests.golden` and `--resolve`: what is sent, what is written, and which address is called."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from loadtests.resolving import resolve


def ask(site: Any, files: tuple[Any, Any], output: Any, *words: str, url: str = "") -> dict[str, Any]:
    manifest, golden = files
    command = [
        *(sys.executable, "-m", "loadtests.golden", "--url", url or site.url, "--manifest", str(manifest)),
        *("--golden", str(golden), "--output", str(output), "--reach-within-s", "0", *words),
    ]
    subprocess.run(command, check=True)
    return dict(json.loads(output.read_text()))


def test_every_row_is_sent_and_every_answer_kept(site, model_files, tmp_path):
    """Ten rows in batches of eight; path, status, release and text of each answer, the metadata first."""
    said = ask(site, model_files, tmp_path / "out.json")

    assert [8, 2] == [json.loads(body)["inputs"][0]["shape"][0] for _, body, _ in site.asked]
    assert (10, "") == (said["rows"], said["unreachable"])
    assert ["/v2/models/toy", "/v2/models/toy/infer", "/v2/models/toy/infer"] == [a["path"] for a in said["answers"]]
    assert {(200, "v1", '{"prediction": 1}')} == {(a["status"], a["release"], a["body"]) for a in said["answers"][1:]}


def test_rows_go_one_by_one_to_a_model_that_takes_one(site, model_files, tmp_path):
    """Ten rows, ten requests."""
    manifest = json.loads(model_files[0].read_text())
    manifest["inputs"][0]["shape"] = [1, 3]
    model_files[0].write_text(json.dumps(manifest))

    said = ask(site, model_files, tmp_path / "out.json")

    assert [1] * 10 == [json.loads(body)["inputs"][0]["shape"][0] for _, body, _ in site.asked]
    assert 10 == said["rows"]


def test_an_answer_that_is_not_200_is_the_last(site, model_files, tmp_path):
    """What it means is not this program's business; asking on would change nothing."""
    site.status = 429
    said = ask(site, model_files, tmp_path / "out.json")

    assert [429] == [answer["status"] for answer in said["answers"]]
    assert [] == site.asked


def test_a_host_is_found_at_the_address_given(site, model_files, tmp_path):
    """The name goes into the request, the connection to the address; the port stays the URL's."""
    port = site.url.rpartition(":")[2]
    said = ask(
        site, model_files, tmp_path / "out.json", "--resolve=lb.example=127.0.0.1", url=f"http://lb.example:{port}"
    )

    assert (10, "") == (said["rows"], said["unreachable"])


def test_other_hosts_are_looked_up_as_ever():
    """Every known address is given, whatever the order; an unknown host goes to the real look-up."""
    module = ModuleType("sockets")
    module.getaddrinfo = socket.getaddrinfo  # type: ignore[attr-defined]
    resolve(["lb.example=127.0.0.1,127.0.0.2"], module)

    known = module.getaddrinfo(b"lb.example", 80, 0, socket.SOCK_STREAM)
    assert {("127.0.0.1", 80), ("127.0.0.2", 80)} == {found[4] for found in known}
    assert socket.getaddrinfo("127.0.0.3", 80) == module.getaddrinfo("127.0.0.3", 80)
    with pytest.raises(OSError, match=r"not known|No address"):
        module.getaddrinfo("other.invalid", 80)

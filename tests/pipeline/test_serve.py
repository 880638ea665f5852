"""`onnxship serve`: real processes, a real port."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from pipeline.cli import cli, complete
from pipeline.errors import UsageError
from tests.pipeline.conftest import tiny_onnx

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60
complete(cli)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and content; status 0 where nobody listens."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            return 0, None


@pytest.fixture
def serve(project: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`onnxship serve` of the project, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), "--admin-port", str(free_port())]
    process = subprocess.Popen(
        command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process, port
        process.kill()


def wait_ready(process: subprocess.Popen[str], port: int) -> None:
    until(lambda: process.poll() is not None or ask(port, "GET", "/v2/health/ready")[0] == 200, "never ready")


@pytest.fixture
def without_golden(project: Path) -> None:
    (project / "golden.npz").unlink()


@pytest.mark.usefixtures("without_golden")
def test_serves_without_golden_inputs_and_ends_with_its_parent(serve: tuple[subprocess.Popen[str], int]) -> None:
    """The model alone is enough to answer; when `serve` is killed hard, the server leaves the port."""
    process, port = serve
    wait_ready(process, port)

    assert (200, 0) == ((reply := ask(port, "POST", "/predict", {"input": [0.0] * 4}))[0], reply[1]["prediction"])
    process.kill()
    assert process.stderr is not None
    said = process.stderr.read()

    assert "There are no golden inputs at" in said
    assert '{"input": [0.0, 0.0, 0.0, 0.0]}' in said
    until(lambda: ask(port, "GET", "/v2/health/live")[0] == 0, "the server outlived its parent")


def test_ends_well_by_ctrl_c(serve: tuple[subprocess.Popen[str], int]) -> None:
    """SIGINT stops the server, and the command exits 0."""
    process, port = serve
    wait_ready(process, port)

    process.send_signal(signal.SIGINT)

    assert 0 == process.wait(DEADLINE_S)
    assert (0, None) == ask(port, "GET", "/v2/health/live")


def test_a_second_ctrl_c_ends_it_at_once(serve: tuple[subprocess.Popen[str], int]) -> None:
    """A caller who has sent half a body is waited for, which is said; asked once more, it ends, and its server too."""
    process, port = serve
    wait_ready(process, port)
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n{"inp')
        until(lambda: ask(port, "GET", "/v2/health/live")[0] == 200, "it does not answer others meanwhile")

        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = next(line for line in process.stderr if "Ctrl-C again" in line)
        process.send_signal(signal.SIGINT)

        assert 130 == process.wait(DEADLINE_S)
    assert "Waiting for requests that are not answered yet; Ctrl-C again ends it at once.\n" == said
    until(lambda: ask(port, "GET", "/v2/health/live")[0] == 0, "the server outlived its command")


@pytest.fixture
def of_images(project: Path) -> None:
    """The project's four features are an image of 2 x 2 greys; its classes have names."""
    path = project / "onnxship.yaml"
    content = yaml.safe_load(path.read_text())
    recipe = {
        "layout": "flat",
        "color": "L",
        "resize": {"size": [2, 2], "interpolation": "nearest"},
        "rescale": "1/255",
    }
    content["services"]["tiny"]["model"]["predict"] = {"labels": "labels.txt", "preprocessing": recipe}
    path.write_text(yaml.safe_dump(content))
    (project / "labels.txt").write_text("left\nright\nbelow\n")


@pytest.mark.usefixtures("of_images")
def test_serves_images_as_the_configuration_says(serve: tuple[subprocess.Popen[str], int]) -> None:
    """A PNG at /predict is preprocessed and answered by a name of the user's file."""
    process, port = serve
    picture = Image.new("L", (2, 2))
    picture.putpixel((1, 0), 255)
    file = io.BytesIO()
    picture.save(file, "PNG")
    wait_ready(process, port)

    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/predict?top_k=1", file.getvalue(), {"Content-Type": "image/png"})
        answer = json.loads(connection.getresponse().read())

    assert ("right", 1) == (answer["prediction"], answer["top_k"][0]["index"])
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert f"curl http://127.0.0.1:{port}/predict -F file=@picture.jpg" in process.stderr.read()


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
@pytest.mark.parametrize("port", ["0", "99999"])
def test_a_number_that_is_no_port_is_refused(project: Path, option: str, port: str) -> None:
    """Exit code 2 and the range, before anything is read."""
    answer = CliRunner().invoke(cli, ["serve", "--config", str(project / "onnxship.yaml"), option, port])

    assert 2 == answer.exit_code
    assert "1<=x<=65535" in answer.output


def test_one_port_for_both_is_refused(project: Path) -> None:
    """Before the server finds out."""
    words = ["serve", "--config", str(project / "onnxship.yaml"), "--port", "9000", "--admin-port", "9000"]
    with pytest.raises(UsageError, match="--port and --admin-port are both 9000"):
        CliRunner().invoke(cli, words, catch_exceptions=False)


def test_a_port_that_is_taken_is_named_with_its_option(project: Path) -> None:
    """The one to be changed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        words = ["--config", str(project / "onnxship.yaml"), "--port", str(free_port()), "--admin-port", str(number)]
        with pytest.raises(UsageError) as caught:
            CliRunner().invoke(cli, ["serve", *words], catch_exceptions=False)

    assert (f"Port {number} is in use.", "choose another with --admin-port") == (
        caught.value.what,
        caught.value.remedy,
    )


@pytest.fixture
def wide_rows(project: Path) -> None:
    """The project's model takes 800 rows a run, and nothing else: its example is long."""
    onnx.save(tiny_onnx(rows=800), project / "model.onnx")
    (project / "golden.npz").unlink()


@pytest.mark.usefixtures("wide_rows")
def test_an_example_too_long_to_copy_stands_in_a_file(serve: tuple[subprocess.Popen[str], int]) -> None:
    """The line that is shown can be typed as it stands while the server runs."""
    process, port = serve
    wait_ready(process, port)
    assert process.stderr is not None
    line = next(line for line in process.stderr if line.startswith("  predict"))

    answer = subprocess.run(shlex.split(line.removeprefix("  predict")), capture_output=True, text=True, check=True)

    assert 800 == len(json.loads(answer.stdout)["outputs"][0]["data"])


def test_a_faulty_service_py_is_refused_before_the_server_starts(project: Path) -> None:
    """As `onnxship build` would refuse it."""
    (project / "service.py").write_text("def postproces(outputs): ...\n")
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(free_port()), "--admin-port", str(free_port())]
    ended = subprocess.run(
        command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert 2 == ended.returncode
    assert "did you mean `postprocess`?" in ended.stderr

"""What can happen on a connection, byte by byte: both the hot path and the ordinary one have to take it."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import TensorProto

from tests.model_service.conftest import Launch, Service, identity, write_manifest
from tests.model_service.connection import ROW, Connection, request


@pytest.fixture
def connection(digits: Service) -> Iterator[Connection]:
    made = Connection(digits)
    yield made
    made.close()


def test_keeps_the_connection(connection: Connection) -> None:
    """Several requests go over one connection, each answered with a length."""
    for _ in range(3):
        connection.send(request())
        status, headers, body = connection.answer()
        assert (200, str(len(body))) == (status, headers["content-length"])


def test_takes_a_request_in_pieces(connection: Connection) -> None:
    """A request that comes byte by byte is the same request."""
    for byte in request():
        connection.send(bytes([byte]))
    assert 200 == connection.answer()[0]


def test_answers_pipelined_requests_in_their_order(connection: Connection) -> None:
    """Requests that do not wait for answers are answered one after the other, inference or not, good or bad."""
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    bad = request(b"{}", "/predict", "X-Request-Id: bad")
    good = [request(ROW, "/predict", f"X-Request-Id: r{number}") for number in range(5)]
    connection.send(get + good[0] + good[1] + bad + get + good[2] + good[3] + good[4])
    answers = [connection.answer() for _ in range(8)]
    assert [200, 200, 200, 400, 200, 200, 200, 200] == [status for status, _, _ in answers]
    asked = ["r0", "r1", "bad", "r2", "r3", "r4"]
    assert asked == [headers["x-request-id"] for _, headers, _ in answers if headers["x-request-id"] in asked]


def test_answers_a_long_pipeline_of_refused_requests(launch: Launch, digits_manifest: Path, hot_path: str) -> None:
    """Each of many requests behind one another is answered, also where too much waits for all but the first."""
    service = launch(digits_manifest, MAX_PENDING="1", HOT_PATH=hot_path).wait_ready()
    connection = Connection(service)
    connection.send(request() + request(b"") * 500)
    statuses = [connection.answer()[0] for _ in range(501)]
    assert 200 == statuses[0]
    assert {400, 503} >= set(statuses[1:])
    connection.close()
    assert 0 == service.stop()


def test_answers_expect_100_continue(connection: Connection) -> None:
    """Who asks before sending a body, as curl does with a large one, is told to go on."""
    head, body = request(ROW, "/predict", "Expect: 100-continue").split(b"\r\n\r\n", 1)
    connection.send(head + b"\r\n\r\n")
    assert b"HTTP/1.1 100 Continue\r\n" == connection.received.readline()
    connection.received.readline()
    connection.send(body)
    assert 200 == connection.answer()[0]


def test_takes_a_chunked_body(connection: Connection) -> None:
    """A body without a length is taken too."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (ROW[:10], ROW[10:]))
    connection.send(head + chunks + b"0\r\n\r\n")
    assert 200 == connection.answer()[0]


def test_closes_when_it_is_asked_to(connection: Connection) -> None:
    """Connection: close is heeded, and said back."""
    connection.send(request(ROW, "/predict", "Connection: close"))
    status, headers, _ = connection.answer()
    assert (200, "close") == (status, headers["connection"])
    assert connection.is_closed()


def test_answers_http_1_0(connection: Connection) -> None:
    """An old client gets its answer, and then the connection ends."""
    connection.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert 200 == connection.answer()[0]
    assert connection.is_closed()


def test_what_is_not_http_is_refused(connection: Connection) -> None:
    """Nonsense gets 400 and the end of its connection, and harms no other."""
    connection.send(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert 400 == connection.answer()[0]
    assert connection.is_closed()


def test_nonsense_behind_a_request_does_not_lose_its_answer(digits: Service, connection: Connection) -> None:
    """A request that is followed by nonsense, and others at the same time, are answered or closed, never hung."""
    connection.send(request() + b"\x00\x01\x02 nonsense\r\n\r\n")
    assert connection.answer()[0] in (200, 400)
    assert 200 == digits.post("/predict", ROW).status


def test_two_lengths_are_refused(connection: Connection) -> None:
    """A request whose end is in doubt could smuggle another one in: 400."""
    connection.send(request(ROW, "/predict", "Content-Length: 3"))
    assert 400 == connection.answer()[0]
    assert connection.is_closed()


def test_a_query_and_an_escaped_path_are_understood(connection: Connection) -> None:
    """The path counts as it reads, not as it is written."""
    for path in ("/predict?x=1", "/v2/models/digits/predict", "/v2/models/d%69gits/predict"):
        connection.send(request(ROW, path))
        assert 200 == connection.answer()[0], path


def test_a_silent_connection_is_closed(launch: Launch, digits_manifest: Path, hot_path: str) -> None:
    """Who stops in the middle of a request is not waited for longer than READ_TIMEOUT_S."""
    service = launch(digits_manifest, READ_TIMEOUT_S="0.3", HOT_PATH=hot_path).wait_ready()
    for half in (request()[:-5], request()[:20], request(bytes(200_000))[:100_000]):
        connection = Connection(service)
        connection.send(half)
        assert connection.is_closed()
        connection.close()
    assert 200 == service.post("/predict", ROW).status
    assert 0 == service.stop()


def thousands(rows: int) -> tuple[bytes, str]:
    """The body of a binary request with `rows` rows of 1,000 numbers, which are to come back so, and its header."""
    size = {"binary_data_size": rows * 4000}
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 1000], "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(rows * 4000), f"Inference-Header-Content-Length: {len(head)}"


@pytest.fixture
def large(launch: Launch, tmp_path: Path, hot_path: str) -> Iterator[Service]:
    """A model that answers rows of 1,000 numbers with themselves, served."""
    manifest = write_manifest(tmp_path, identity(TensorProto.FLOAT, ["N", 1000]))
    service = launch(manifest, HOT_PATH=hot_path).wait_ready()
    yield service
    assert 0 == service.stop()


def test_an_idle_connection_holds_no_body(large: Service) -> None:
    """What was sent and answered leaves the memory, though its connection stays open."""
    body, header = thousands(1000)
    before = large.metrics_value("process_resident_memory_bytes")
    connections = [Connection(large) for _ in range(40)]
    for connection in connections:
        connection.send(request(body, "/v2/models/tiny/infer", header))
        assert 200 == connection.answer()[0]
    assert large.metrics_value("process_resident_memory_bytes") < before + 20 * len(body)
    for connection in connections:
        connection.close()


def test_an_answer_that_is_not_taken_is_logged_once(large: Service) -> None:
    """A caller that goes while its answer is on its way has one line in the log, that of the answer."""
    body, header = thousands(4000)
    connection = Connection(large)
    connection.send(request(body, "/v2/models/tiny/infer", header, "X-Request-Id: large"))
    large.lines_of("large", 1)
    connection.close()
    large.request("GET", "/v2", headers={"X-Request-Id": "after"})
    large.lines_of("after", 1)
    assert [200] == [line["status"] for line in large.lines_of("large", 1)]


def test_a_caller_that_does_not_read_waits(launch: Launch, tmp_path: Path, hot_path: str) -> None:
    """Answers that nobody reads pile up for one connection only so far; other callers are served meanwhile."""
    manifest = write_manifest(tmp_path, identity(TensorProto.FLOAT, ["N", 1000]))
    service = launch(manifest, HOT_PATH=hot_path, MAX_BODY_BYTES="10000000").wait_ready()
    body, header = thousands(200)
    asked = request(body, "/v2/models/tiny/infer", header)
    connection = Connection(service)
    sender = threading.Thread(target=lambda: [connection.send(asked) for _ in range(40)], daemon=True)
    sender.start()
    time.sleep(1.0)
    assert 200 == service.post("/v2/models/tiny/infer", body, dict([header.split(": ")])).status
    assert service.metrics_value("process_resident_memory_bytes") < 400_000_000
    for _ in range(40):
        status, _, answer = connection.answer()
        assert (200, True) == (status, len(answer) > 200 * 4000)
    sender.join()
    connection.close()


def test_bodies_leave_with_their_callers(digits: Service) -> None:
    """Callers that hang up in the middle of a body, or before their answer, leave nothing behind."""
    for cut in (30, 100, len(request())):
        for _ in range(20):
            connection = Connection(digits)
            connection.send(request()[:cut])
            connection.close()
    digits.wait_until(lambda: digits.metrics_value("nv_inference_pending_request_count") == 0, "nothing pending")
    assert 200 == digits.post("/predict", ROW).status

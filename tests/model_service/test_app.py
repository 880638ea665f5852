"""What holds for every answer: headers, errors, the log, the metrics, the documentation."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from model_service.access_log import FLUSH_S, AccessLog
from model_service.emf import emf_lines
from model_service.http.error_answers import add_error_answers
from model_service.metrics import ModelStats
from model_service.serving import Serving
from model_service.settings import Settings
from tests.model_service.conftest import Launch, Service, addition, send, write_manifest

ROW = [0.0] * 64


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("GET", "/", None, {}, 404, "no such path: /"),
        ("GET", "/v2/health/live/", None, {}, 404, "no such path"),
        ("POST", "/predict/", b"{}", {}, 404, "no such path: /predict/; GET /docs shows all that there are"),
        ("GET", "/metrics", None, {}, 404, "metrics are on ADMIN_PORT"),
        ("GET", "/predict", None, {}, 405, "GET is not allowed here"),
        ("DELETE", "/v2/models/digits", None, {}, 405, "DELETE is not allowed here"),
        ("POST", "/predict", b"x" * 200_001, {}, 413, "the body is larger than 200000 bytes"),
        ("POST", "/v2/models/digits/infer", b"x" * 200_001, {}, 413, "the body is larger than 200000 bytes"),
        ("POST", "/predict", b"x", {"Content-Encoding": "br"}, 415, "Content-Encoding `br` is not supported"),
        ("POST", "/predict", b"x", {"Content-Encoding": "gzip"}, 400, "the compressed body is cut off"),
        ("POST", "/predict", b"{}" * 20, {"Content-Encoding": "gzip"}, 400, "the body is no intact gzip"),
    ],
)
def test_errors_are_json(
    digits: Service, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, words: str
) -> None:
    """Every error is {"error": "..."} with the release's header, whatever made it."""
    reply = digits.request(method, path, body, headers)
    assert (status, ["error"]) == (reply.status, list(reply.json))
    assert words in reply.json["error"]
    assert "r1" == reply.headers["x-onnxship-release"]


def test_counts_a_body_of_unknown_length(digits: Service) -> None:
    """A chunked body is refused as soon as it is too large, and not held."""
    connection = http.client.HTTPConnection("127.0.0.1", digits.ports["port"], timeout=10)
    connection.request("POST", "/predict", iter([b"x" * 150_000] * 2), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2", "/v2/models/digits", "/docs"])
def test_every_answer_names_the_release(digits: Service, path: str) -> None:
    """X-Onnxship-Release stands in every answer."""
    reply = digits.get(path)
    assert (200, "r1") == (reply.status, reply.headers["x-onnxship-release"])


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready"])
def test_probes_may_ask_for_the_head_alone(digits: Service, path: str) -> None:
    """HEAD is answered as GET is, without the body."""
    reply = digits.request("HEAD", path)
    assert (200, b"", str(len(digits.get(path).body))) == (reply.status, reply.body, reply.headers["content-length"])


def test_validation_errors_have_the_same_form() -> None:
    """A route with typed parameters, and one that raises, answer in the same form as all others."""
    app = FastAPI()
    add_error_answers(app)

    @app.get("/typed")
    def typed(number: int) -> int:
        return 1 // number

    async def get(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path)

    invalid, broken = asyncio.run(get("/typed?number=x")), asyncio.run(get("/typed?number=0"))
    assert (400, ["error"]) == (invalid.status_code, list(invalid.json()))
    assert "number='x': Input should be a valid integer" in invalid.json()["error"]
    assert (500, ["error"]) == (broken.status_code, list(broken.json()))
    assert "ZeroDivisionError" not in broken.text


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain", "application/json"])
def test_the_content_type_does_not_matter(digits: Service, content_type: str | None) -> None:
    """JSON is read under any Content-Type, and under none, as the protocol's own clients send it."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert digits.post("/predict", {"input": ROW}, headers).status == 200


def test_logs_one_line_per_request_and_no_payload(digits: Service) -> None:
    """A request leaves one JSON line with who, what and how long, and nothing of what was sent or answered."""
    body = {"input": [0.123456789] * 64}
    reply = digits.post("/predict", body, {"X-Request-Id": "trace-1"})
    assert "trace-1" == reply.headers["x-request-id"]
    [line] = digits.lines_of("trace-1", 1)
    assert line.pop("latency_ms") > 0
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert {
        "level": "info",
        "message": "request",
        "request_id": "trace-1",
        "release": "r1",
        "model": "digits",
        "version": reply.json["version"],
        "method": "POST",
        "path": "/predict",
        "status": 200,
    } == line
    assert "0.123456789" not in digits.log_path.read_text()


def test_a_caller_that_hangs_up_is_no_fault_of_ours(digits: Service) -> None:
    """A connection that closes in the middle of its body is logged with 499, not as an error with a stack."""
    with socket.create_connection(("127.0.0.1", digits.ports["port"])) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: 100\r\n\r\n{")
    [line] = digits.lines_of("gone", 1)
    assert (499, "info") == (line["status"], line["level"])


def test_logs_of_errors_name_callers_that_went(launch: Launch, digits_manifest: Path, hot_path: str) -> None:
    """ACCESS_LOG=errors leaves out what went well, and has the line of a caller that hung up."""
    service = launch(digits_manifest, ACCESS_LOG="errors", HOT_PATH=hot_path).wait_ready()
    assert 200 == service.post("/predict", {"input": ROW}, {"X-Request-Id": "well"}).status
    with socket.create_connection(("127.0.0.1", service.ports["port"])) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: 100\r\n\r\n{")
    assert 499 == service.lines_of("gone", 1)[0]["status"]
    assert [] == service.lines_of("well", 0)


def test_a_log_that_could_not_be_written_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lines that a full disk takes are lost; those that come when it has room again are written, and only those."""

    async def story() -> None:
        log = AccessLog(Serving(Settings()))
        full = open("/dev/full", "w")  # noqa: SIM115 - cannot be closed without an error
        for request_id, stdout in (("lost", full), ("later", (tmp_path / "log").open("w"))):
            monkeypatch.setattr(sys, "stdout", stdout)
            log.write(request_id=request_id, method="GET", path="/v2", status=200, started=0.0, headers={})
            await asyncio.sleep(3 * FLUSH_S)
        with contextlib.suppress(OSError):
            full.close()

    asyncio.run(story())
    assert ["later"] == [json.loads(line)["request_id"] for line in (tmp_path / "log").read_text().splitlines()]


def test_takes_the_load_balancer_s_trace_id(digits: Service) -> None:
    """Without an id of the caller's own the load balancer's is used; a dangerous one is replaced."""
    trace = "Root=1-67891233-abcdef012345678912345678"
    assert trace == digits.request("GET", "/v2", None, {"X-Amzn-Trace-Id": trace}).headers["x-request-id"]
    reply = digits.request("GET", "/v2", None, {"X-Request-Id": "a b"})
    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])


def test_health_probes_do_not_fill_the_log(digits: Service) -> None:
    """A probe that succeeds every few seconds leaves no line."""
    digits.request("GET", "/v2/health/ready", None, {"X-Request-Id": "probe"})
    digits.request("GET", "/v2", None, {"X-Request-Id": "after-the-probe"})
    digits.lines_of("after-the-probe", 1)
    assert [] == [line for line in digits.log() if line.get("request_id") == "probe"]


def samples(service: Service) -> dict[tuple[str, str], float]:
    """Every sample by its name and its reason, endpoint or bucket."""
    found = {}
    for family in text_string_to_metric_families(service.metrics()):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in ("model", "version")}
            found[sample.name, ",".join(labels.values())] = sample.value
    return found


def test_counts_by_triton_s_names(adder: Service) -> None:
    """/metrics on the admin port counts requests, rows, failures and times, by model and version."""
    before = samples(adder)
    row = {"a": [1, 2], "b": [3, 4]}
    adder.post("/predict", {"inputs": [row, row, row]})
    adder.post("/predict", {})
    after = samples(adder)

    def grew(name: str, label: str = "") -> float:
        return after[name, label] - before.get((name, label), 0.0)

    assert 1 == grew("nv_inference_request_success")
    assert 3 == grew("nv_inference_count")
    assert 1 == grew("nv_inference_exec_count")
    assert 1 == grew("nv_inference_request_failure", "OTHER")
    assert 1 == grew("model_service_request_duration_seconds_count", "predict")
    assert grew("nv_inference_request_duration_us") >= grew("nv_inference_compute_infer_duration_us") > 0
    assert 0 == after["nv_inference_pending_request_count", ""]
    assert after["process_resident_memory_bytes", ""] > 0
    assert 1 == after["model_service_model_device", f"cpu,{onnxruntime.__version__},CPUExecutionProvider"]
    assert f'model="adder",version="{adder.get("/v2/models/adder").json["versions"][0]}"' in adder.metrics()


def test_the_admin_port_serves_nothing_else(digits: Service) -> None:
    """Neither predictions nor documentation are on the admin port."""
    for path in ("/predict", "/docs", "/v2"):
        reply = send(digits.ports["admin_port"], "GET", path)
        assert (404, "r1") == (reply.status, reply.headers["x-onnxship-release"])


def test_the_documentation_s_examples_can_be_sent(digits: Service, digits_rows: np.ndarray) -> None:
    """The examples in /openapi.json are golden rows, and the service answers them with 200."""
    document = digits.get("/openapi.json").json
    for path in ("/predict", "/v2/models/digits/infer"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert digits.post(path, example).status == 200
    assert {"input": digits_rows[0].tolist()} == document["paths"]["/predict"]["post"]["requestBody"]["content"][
        "application/json"
    ]["example"]


def test_the_documentation_page_needs_no_other_host(digits: Service) -> None:
    """Everything that /docs loads is served here, with the right media type."""
    page = digits.get("/docs").body.decode()
    loaded = set(re.findall(r'(?:src|href)="([^"]+)"', page)) - {"data:,"}
    assert {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"} == loaded
    script, style = (digits.get(path) for path in sorted(loaded))
    assert (200, "text/javascript") == (script.status, script.headers["content-type"].partition(";")[0])
    assert (200, "text/css") == (style.status, style.headers["content-type"].partition(";")[0])
    assert b"SwaggerUIBundle" in script.body
    assert "/openapi.json" in page
    assert digits.get("/docs/__init__.py").status == 404


def test_documents_a_model_with_several_inputs_without_golden_ones(adder: Service) -> None:
    """Without golden inputs the example is made from the signature, and can be sent as well."""
    operation = adder.get("/openapi.json").json["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert {"input": {"a": [0.0, 0.0], "b": [0.0, 0.0]}} == example
    assert adder.post("/predict", example).status == 200


def test_documents_a_model_whose_golden_inputs_have_gaps(launch: Launch, tmp_path: Path) -> None:
    """A golden row with NaN serves as warm-up; as an example it is left out, because JSON has no NaN."""
    rows = np.array([[np.nan, 1.0]] * 32, np.float32)
    service = launch(write_manifest(tmp_path, addition(), golden={"a": rows, "b": rows})).wait_ready()
    operation = service.get("/openapi.json").json["paths"]["/predict"]["post"]
    assert ["schema"] == list(operation["requestBody"]["content"]["application/json"])


def test_refuses_at_once_when_too_many_wait(launch: Launch, tmp_path: Path) -> None:
    """With MAX_PENDING requests in work the next one gets 503 and Retry-After, and is counted as rejected."""
    code = f"""
import pathlib, time
def postprocess(outputs):
    while not pathlib.Path({str(tmp_path / "go")!r}).exists():
        time.sleep(0.01)
    return {{}}
"""
    manifest = write_manifest(tmp_path, addition())
    service = launch(manifest, code=code, MAX_PENDING="1").wait_ready()
    body = {"input": {"a": [1, 2], "b": [3, 4]}}
    statuses: list[int] = []
    first = threading.Thread(target=lambda: statuses.append(service.post("/predict", body).status))
    first.start()
    service.wait_until(lambda: samples(service).get(("nv_inference_pending_request_count", "")) == 1, "in work")
    second = service.post("/predict", body)
    assert (503, "1") == (second.status, second.headers["retry-after"])
    (tmp_path / "go").touch()
    first.join()
    assert [200] == statuses
    assert 1 == samples(service)["nv_inference_request_failure", "REJECTED"]


def test_tells_cloudwatch_what_waits(launch: Launch, tmp_path: Path) -> None:
    """With EMF_NAMESPACE the log has lines in the embedded metric format, of each model, again and again."""
    service = launch(write_manifest(tmp_path, addition()), EMF_NAMESPACE="onnxship", EMF_INTERVAL_S="0.1").wait_ready()
    service.wait_until(lambda: sum("_aws" in line for line in service.log()) >= 2, "told")
    line = next(line for line in service.log() if "_aws" in line)
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert ("onnxship", [["Model"]]) == (directive["Namespace"], directive["Dimensions"])
    assert [("PendingRequests", 0), ("QueuedWork", 0), ("RejectedRequests", 0)] == [
        (metric["Name"], line[metric["Name"]]) for metric in directive["Metrics"]
    ]
    assert "tiny" == line["Model"]
    assert 0 == service.stop()


def test_counts_what_was_rejected_of_each_version_anew() -> None:
    """While versions take over one another each line counts the rejections of its own version since the line before."""
    rejected: dict[ModelStats, int] = {}
    for count in range(50, 0, -1):
        stats = ModelStats("tiny", str(count))  # where the one before may have lain in memory
        stats.failures["REJECTED"] = count
        lines, rejected = emf_lines([stats], "onnxship", rejected)
        assert count == json.loads(lines)["RejectedRequests"]
    stats.failures["REJECTED"] += 7
    assert 7 == json.loads(emf_lines([stats], "onnxship", rejected)[0])["RejectedRequests"]


def test_logs_the_trace_that_a_request_belongs_to(digits: Service) -> None:
    """A W3C traceparent is in the line of its request; one that is none is left out."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    for request_id, header in (("traced", f"00-{trace}-{parent}-01"), ("untraced", "00-zz-01")):
        digits.post("/predict", {"input": ROW}, {"X-Request-Id": request_id, "Traceparent": header})
    [traced], [untraced] = digits.lines_of("traced", 1), digits.lines_of("untraced", 1)
    assert (trace, parent) == (traced["trace_id"], traced["parent_id"])
    assert "trace_id" not in untraced


def test_answers_what_triton_s_tools_ask(digits: Service) -> None:
    """Configuration and statistics have Triton's members; a request is counted."""
    before = digits.get("/v2/models/digits/stats").json["model_stats"][0]
    digits.post("/v2/models/digits/predict", {"inputs": [ROW, ROW]})
    after = digits.get("/v2/models/stats").json["model_stats"][0]
    assert (2, 1) == tuple(after[name] - before[name] for name in ("inference_count", "execution_count"))
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    config = digits.get("/v2/models/digits/config").json
    assert ("digits", "onnxruntime") == (config["name"], config["backend"])
    assert [{"name": "X", "data_type": "TYPE_FP32", "dims": [64]}] == config["input"]
    assert config["max_batch_size"] > 1


def test_profiles_a_model(digits: Service) -> None:
    """The admin port gives ONNX Runtime's own profile of some runs, node by node; nothing of it stays on the disk."""
    reply = send(digits.ports["admin_port"], "POST", "/v2/models/digits/profile?runs=3")
    assert 200 == reply.status
    assert 3 == sum(event["name"] == "model_run" for event in reply.json)
    assert any(event.get("cat") == "Node" for event in reply.json)
    assert [] == list(digits.log_path.parent.rglob("profile*"))
    assert 404 == send(digits.ports["admin_port"], "POST", "/v2/models/other/profile").status
    for runs in ("0", "abc"):
        reply = send(digits.ports["admin_port"], "POST", f"/v2/models/digits/profile?runs={runs}")
        assert (400, True) == (reply.status, reply.json["error"].startswith(f"runs='{runs}': "))
    assert 404 == digits.post("/v2/models/digits/profile", {}).status

"""A user's own service.py: what it may define, and what its faults look like."""

from pathlib import Path

import numpy as np
import pytest

from tests.model_service.conftest import Launch, addition, write_manifest

PREPROCESS = '''
import numpy as np

STARTED = []

def startup():
    STARTED.append(True)

def preprocess(request, content_type):
    """"1,2;10,20" as text/csv: the rows of a and b."""
    assert content_type == "text/csv" and STARTED == [True]
    a, b = (np.array([[float(n) for n in part.split(",")]], np.float32) for part in request.decode().split(";"))
    return {"a": a, "b": b}
'''
POSTPROCESS = """
from labels import NAMES

def postprocess(outputs):
    return {"total": outputs["sum"].sum(), "sum": outputs["sum"], "name": NAMES[0], "model": "mine"}
"""

GOOD = b'{"input": {"a": [1, 2], "b": [3, 4]}}'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path, addition(), name="adder")


def test_reads_and_answers_in_the_user_s_words(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """preprocess reads the raw body, postprocess makes the answer, startup ran before; the time is added."""
    (tmp_path / "labels.py").write_text('NAMES = ["first"]')
    code = f"import sys; sys.path.append({str(tmp_path)!r})\n{PREPROCESS}\n{POSTPROCESS}"
    service = launch(manifest, code=code).wait_ready()
    answer = service.post("/predict", b"1,2;10,20", {"Content-Type": "text/csv"}).json
    assert 0 < answer.pop("processing_time_ms")
    assert 12 == len(answer.pop("version"))
    assert {"total": 33.0, "sum": [[11.0, 22.0]], "name": "first", "model": "mine"} == answer


def test_preprocess_alone_keeps_the_usual_answer(launch: Launch, manifest: Path) -> None:
    """Without a postprocess the answer has the usual form."""
    service = launch(manifest, code=PREPROCESS).wait_ready()
    answer = service.post("/predict", b"1,2;10,20", {"Content-Type": "text/csv"}).json
    assert ([11.0, 22.0], None) == (answer["prediction"], answer["confidence"])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def preprocess(request, content_type): return {}['secret']", "preprocess failed: KeyError"),
        ("def preprocess(request, content_type): return [1]", "preprocess did not return a dict of numpy arrays"),
        (
            "def preprocess(request, content_type): return {'a': [1]}",
            "preprocess did not return a dict of numpy arrays",
        ),
        (
            "import numpy\ndef preprocess(request, content_type): return {n: numpy.zeros((1, 2)) for n in 'ab'}",
            "preprocess returned what the model does not take: input `a` is float64; the model wants FP32",
        ),
        ("def postprocess(outputs): raise RuntimeError('secret')", "postprocess failed: RuntimeError"),
        ("def postprocess(outputs): return 7", "postprocess did not return a dict"),
        ("import sys\ndef preprocess(request, content_type): sys.exit(3)", "preprocess failed: SystemExit"),
        ("def postprocess(outputs): raise KeyboardInterrupt", "postprocess failed: KeyboardInterrupt"),
        (
            "def postprocess(outputs): return {'value': object()}",
            "postprocess returned what JSON cannot hold: Type is not JSON serializable: object",
        ),
    ],
)
def test_tells_the_caller_only_what_kind_of_fault(launch: Launch, manifest: Path, code: str, error: str) -> None:
    """A fault of service.py is a 500 that names the function and the exception; the stack is in the log alone."""
    service = launch(manifest, code=code).wait_ready()
    reply = service.post("/predict", {"input": {"a": [1, 2], "b": [3, 4]}}, {"X-Request-Id": "look-here"})
    assert (500, {"error": f"service.py {error}"}) == (reply.status, reply.json)
    assert ["error", "error"] == [line["level"] for line in service.lines_of("look-here", 2)]
    assert service.get("/v2/health/ready").status == 200


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (
            "def preprocess(request, content_type): raise BadRequest('age must be positive')",
            b"-1",
            "age must be positive",
        ),
        ("def preprocess(request, content_type): raise BadRequest", b"-1", "the request cannot be answered"),
        ("def postprocess(outputs): raise BadRequest('no face found')", GOOD, "no face found"),
        (
            "def preprocess(request, content_type): json.loads(request)",
            b'{"age": ',
            "the body cannot be read: Expecting value: line 1 column 9 (char 8)",
        ),
        (
            "def preprocess(request, content_type): json.loads(request)",
            b"",
            "the body cannot be read: Expecting value: line 1 column 1 (char 0)",
        ),
        (
            "def preprocess(request, content_type): request.split(b';')[1].decode()",
            b"1;\xff",
            "the body cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_tells_the_caller_what_was_wrong_with_the_request(
    launch: Launch, manifest: Path, code: str, body: bytes, error: str
) -> None:
    """BadRequest is a 400 with its text, and so is a body that preprocess cannot decode: neither is an error's line."""
    service = launch(manifest, code=f"import json\nfrom model_service import BadRequest\n{code}").wait_ready()
    reply = service.post("/predict", body)
    assert (400, {"error": error}) == (reply.status, reply.json)
    assert [] == [line for line in service.log() if line["level"] == "error"]


@pytest.mark.parametrize("document", ["b'not the body'", "b''"])
def test_a_document_of_service_py_s_own_is_its_own_fault(launch: Launch, manifest: Path, document: str) -> None:
    """What preprocess cannot decode and is no part of the body is a 500, with JSON's message in the log alone."""
    code = f"import json\ndef preprocess(request, content_type): json.loads({document})"
    service = launch(manifest, code=code).wait_ready()
    reply = service.post("/predict", GOOD)
    assert (500, {"error": "service.py preprocess failed: JSONDecodeError"}) == (reply.status, reply.json)


def test_no_exception_costs_a_slot(launch: Launch, manifest: Path) -> None:
    """More requests than there are slots may raise what is no Exception; the next good one is answered."""
    code = """
class Panic(BaseException):
    pass

def postprocess(outputs):
    if outputs["sum"].sum() < 0:
        raise Panic
    return {}
"""
    service = launch(manifest, code=code, SLOTS="1").wait_ready()
    for _ in range(3):
        reply = service.post("/predict", {"input": {"a": [-1, 0], "b": [0, 0]}})
        assert (500, {"error": "service.py postprocess failed: Panic"}) == (reply.status, reply.json)
    assert 200 == service.post("/predict", GOOD).status


def test_keeps_the_stack_for_the_log(launch: Launch, manifest: Path) -> None:
    """The log has the stack of the user's exception, with its message, which the caller never sees."""
    service = launch(manifest, code="def postprocess(outputs): raise RuntimeError('a secret')").wait_ready()
    reply = service.post("/predict", {"input": {"a": [1, 2], "b": [3, 4]}})
    stacks = [line["stack"] for line in service.log() if "stack" in line]
    assert ["RuntimeError: a secret"] == [stack.splitlines()[-1] for stack in stacks]
    assert "service.py postprocess failed: RuntimeError: a secret" in [line["message"] for line in service.log()]
    assert b"secret" not in reply.body


def test_warns_of_a_function_that_is_almost_a_hook(launch: Launch, manifest: Path) -> None:
    """A misspelt hook beside a right one is served without it, and the log says so; a helper's own name is none."""
    code = "def startup(): pass\ndef postproces(outputs): return {}\ndef _preproces(): pass\ndef process(): pass"
    service = launch(manifest, code=code).wait_ready()
    warnings = [line["message"] for line in service.log() if line["level"] == "warning"]
    assert ["service.py: `postproces` is not called: did you mean `postprocess`?"] == warnings


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_this_name", "service.py cannot be imported: ModuleNotFoundError"),
        ("def startup(): raise ValueError('no licence')", "service.py startup failed: ValueError: no licence"),
        ("import sys\ndef startup(): sys.exit()", "service.py startup failed: SystemExit"),
        ("raise SystemExit(2)", "service.py cannot be imported: SystemExit: 2"),
        ("preprocess = 7", "service.py: `preprocess` is not a function"),
        (
            "def preprocess(request): return {}",
            "service.py: `preprocess` cannot be called as preprocess(request, content_type): too many positional",
        ),
        ("def startup(path): pass", "service.py: `startup` cannot be called as startup(): missing a required argument"),
        ("async def postprocess(outputs): return {}", "service.py: `postprocess` is async; it is called in a thread"),
        ("def startup(): yield", "service.py: `startup` is a generator; it is called in a thread, as startup()"),
        ("x = 7", "service.py defines none of startup, preprocess, postprocess"),
        ("def postproces(outputs): return {}", "postprocess; `postproces` is not called: did you mean `postprocess`?"),
    ],
)
def test_a_broken_service_py_never_becomes_ready(launch: Launch, manifest: Path, code: str, words: str) -> None:
    """What fails before the first request ends the process, with one line that says why."""
    service = launch(manifest, code=code)
    assert service.process.wait(30) == 1
    last = service.log()[-1]
    assert "critical" == last["level"]
    assert words in last["message"]


def test_a_syntax_error_is_told_once(launch: Launch, manifest: Path) -> None:
    """File, line and Python's message stand in one line, without the stack of the import machinery."""
    service = launch(manifest, code="x = (\n")
    assert service.process.wait(30) == 1
    last = service.log()[-1]
    words = "the service cannot start: service.py cannot be imported: SyntaxError: '(' was never closed"
    assert f"{words} (service.py, line 1)" == last["message"]
    assert "stack" not in last


def test_arrays_need_not_be_contiguous(launch: Launch, manifest: Path) -> None:
    """A postprocess may return any view of its arrays."""
    code = "def postprocess(outputs): return {'sum': outputs['sum'].T}"
    service = launch(manifest, code=code).wait_ready()
    rows = [{"a": [1, 2], "b": [0, 0]}, {"a": [3, 4], "b": [0, 0]}]
    assert np.array([[1, 3], [2, 4]]).tolist() == service.post("/predict", {"inputs": rows}).json["sum"]

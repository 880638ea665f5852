"""Contenders are real processes, verified before they are timed, and frozen while others are measured."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from benchmarks import forms, housekeeping, models, wrk
from benchmarks.cells import Cell, Patience, interleave, side_by_side
from benchmarks.contenders import Contender, Maker, naive, ours
from benchmarks.errors import CannotMeasure, OursDoesNotRun, PeerDoesNotRun
from benchmarks.field import Bench, raw, running
from benchmarks.models import MLP
from benchmarks.processes import Server, free_port
from benchmarks.verify import expected_of, verify
from benchmarks.versus import Versus, per_core, rate, rows_of

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
PARENT = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def server_of(directory: Path) -> Server:
    """A server with a child, not started."""
    port = free_port()
    return Server([sys.executable, "-c", PARENT, str(port)], {}, directory, directory / "logs" / "log", port)


@pytest.mark.parametrize(
    ("work", "make", "megabytes"),
    [
        (models.MLP, models.make_mlp, 0.0108),
        (models.RESNET, models.make_resnet50, 102),
        (models.TRANSFORMER, models.make_transformer, 90),
    ],
    ids=["mlp", "resnet50", "transformer"],
)
def test_the_models_are_what_they_are_called(work: models.Work, make: Callable, megabytes: float) -> None:
    """Valid ONNX of the published size, with a dynamic batch axis before the row's shape."""
    model = make()
    onnx.checker.check_model(model)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim

    assert megabytes == pytest.approx(model.ByteSize() / 1e6, rel=0.02)
    assert ["N", *work.row_shape] == [dimension.dim_param or dimension.dim_value for dimension in dimensions]


def test_each_request_differs_from_the_others() -> None:
    """A server that mixes requests up, or remembers one, answers wrongly."""
    assert MLP.distinct == len({rows.tobytes() for rows in MLP.rows()})


def test_rounds_go_through_all_and_every_second_one_backwards() -> None:
    """Who comes first changes, so that none has the better place."""
    order: list[str] = []
    cells = interleave({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 2)

    assert "abccba" == "".join(order)
    assert {"a": [1, 6], "b": [2, 5], "c": [3, 4]} == cells


def test_what_is_judged_by_another_runs_right_beside_it() -> None:
    """However many stand in the row; one that does not run leaves no gap."""
    runs = {name: name for name in ("ours", "naive", "litserve", "raw")}
    assert ["ours", "raw", "naive", "litserve"] == list(side_by_side(runs, "ours", "raw", "triton"))


def test_a_noisy_turn_is_measured_again_while_patience_lasts() -> None:
    """The first quiet turn counts; without patience the noisy one does, and its row shows the noise."""
    turns = iter([Cell(1, 1, 1, foreign_cores=1.0), Cell(2, 1, 1, foreign_cores=0.1), Cell(3, 1, 1)])

    assert 2 == Patience(60, print, busy_cores=lambda: 0).measure(lambda: next(turns)).rate_per_s
    assert 3 == Patience(0, print).measure(lambda: next(turns)).rate_per_s


def test_a_frozen_server_does_nothing_until_it_is_thawed(tmp_path: Path) -> None:
    """Its children too: an idle peer costs the one under load nothing."""
    server = server_of(tmp_path).start().wait_ready("/")
    try:
        server.freeze()
        deadline = time.monotonic() + 10
        while {p.status() for p in server.processes()} != {psutil.STATUS_STOPPED} and time.monotonic() < deadline:
            time.sleep(0.01)
        frozen = [process.status() for process in server.processes()]
        server.thaw()

        assert [psutil.STATUS_STOPPED] * 2 == frozen
        assert 200 == server.get_status("/")
    finally:
        server.stop()


def test_a_stopped_server_leaves_no_child(tmp_path: Path) -> None:
    """Peers start workers; none may go on and disturb the next row."""
    server = server_of(tmp_path).start().wait_ready("/")
    members = server.processes()
    server.stop()

    assert 2 == len(members)
    assert [] == [process for process in members if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_the_next_benchmark_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    """Frozen servers with their children; a second benchmark beside a running one is refused."""
    server = server_of(tmp_path).start().wait_ready("/")
    server.freeze()
    left = server.processes()

    with housekeeping.only_one(tmp_path):
        with pytest.raises(CannotMeasure, match="already"), housekeeping.only_one(tmp_path):
            pass
        psutil.wait_procs(left, timeout=10)
        running = [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    assert (2, []) == (len(left), running)


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    """The report says why a peer is absent."""
    command = [sys.executable, "-c", "raise SystemExit('no stub for this Python')"]
    server = Server(command, {}, tmp_path, tmp_path / "logs" / "log", free_port())
    try:
        with pytest.raises(PeerDoesNotRun, match="exit code 1: no stub for this Python"):
            server.start().wait_ready("/")
    finally:
        server.stop()


@pytest.mark.parametrize(
    "make",
    [
        ours(MLP, forms.PREDICT),
        ours(MLP, forms.V2_JSON),
        naive(MLP, forms.ROWS, intra_op_threads=1),
        naive(MLP, forms.BYTES, intra_op_threads=1),
    ],
    ids=["predict", "v2", "naive", "naive-bytes"],
)
def test_what_runs_here_answers_as_onnx_runtime_does(bench: Bench, make: Maker) -> None:
    """64 different requests at once, over each form."""
    with running(bench, MLP, {"ours": make}) as field:
        assert ["ours"] == list(field.contenders)


def test_a_server_that_mixes_answers_up_is_refused(bench: Bench, tiny: Callable) -> None:
    """It answers every request with the answer to the first."""
    expected = expected_of(MLP, models.make(MLP, bench.directory))
    body = forms._json({"outputs": expected[0].tolist()})
    port = tiny(lambda _: (200, body)).port
    contender = Contender("mixed up", MLP, forms.ROWS, Server([], {}, bench.directory, bench.directory, port), "/")

    with pytest.raises(PeerDoesNotRun, match="request 1 of 64 at once wrongly"):
        verify(contender, expected)


def test_a_200_that_is_no_answer_is_refused(bench: Bench, tiny: Callable) -> None:
    """As when something else than the contender listens on the port."""
    port = tiny(lambda _: (200, b"")).port
    contender = Contender("empty", MLP, forms.V2_JSON, Server([], {}, bench.directory, bench.directory, port), "/")

    with pytest.raises(PeerDoesNotRun, match="answers 200 with what is no answer"):
        verify(contender, expected_of(MLP, models.make(MLP, bench.directory)))


def test_a_peer_that_does_not_run_is_left_out_with_its_reason(bench: Bench) -> None:
    """The others are measured; without ours there is nothing to compare."""

    def broken(directory: Path) -> Contender:
        raise PeerDoesNotRun("cannot be installed: no network")

    with running(bench, MLP, {"triton": broken}) as field:
        rows = rows_of("MLP", "answers/s", rate, {}, field.absent, [Versus("triton", "Triton", bar=1.5)])

    assert [("Triton", None, "cannot be installed: no network")] == [(row.reference, row.ok, row.note) for row in rows]
    with pytest.raises(OursDoesNotRun), running(bench, MLP, {"ours": broken}):
        pass


@needs_wrk
def test_a_peer_that_dies_while_it_is_measured_is_left_out(bench: Bench) -> None:
    """The other contenders of the row keep their figures."""
    with running(bench, MLP, {"naive": naive(MLP, forms.ROWS, intra_op_threads=1)}) as field:
        field.contenders["naive"].server.stop()
        field.runs(1, 1)["naive"]()

    assert {"naive": "answered nothing in 1 s"} == field.absent


def test_onnx_runtime_alone_is_measured_in_a_process(bench: Bench) -> None:
    """It gives a rate and latencies, and uses a core."""
    with raw(bench, MLP, threads=1, intra_op_threads=1) as alone:
        cell = alone(1)

    assert cell.rate_per_s > 0
    assert 0 < cell.p50_ms <= cell.p99_ms
    assert cell.server_cores > 0


@needs_wrk
def test_wrk_sends_the_requests_in_rotation(tmp_path: Path, tiny: Callable) -> None:
    """Whole requests from files, all of them; refusals are counted apart."""
    server = tiny(lambda body: (200, body) if body != b"bad" else (503, b""))
    head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"
    wrk.write_requests(tmp_path / "requests", [(head + body).encode() for body in ("one", "two", "bad")])

    cell = wrk.read_result(wrk.start(server.port, tmp_path / "requests", connections=2, seconds=1))

    assert {b"one", b"two", b"bad"} == set(server.bodies)
    assert cell.rate_per_s > 0
    assert cell.failed == pytest.approx(len(server.bodies) / 3, abs=3)


def test_a_row_compares_what_stands_in_its_cells() -> None:
    """Ours over the reference's, with the noisiest cell's foreign cores."""
    cells = {"ours": [Cell(200, 1, 1, foreign_cores=0.1)], "raw": [Cell(400, 1, 1, stolen_cores=0.2)]}

    row = rows_of("MLP", "answers/s", rate, cells, {}, [Versus("raw", "raw ORT", bar=0.4)])[0]

    assert (200, 400, 0.5, True, 0.2) == (row.ours, row.reference_value, row.ratio, row.ok, row.foreign_cores)


def test_answers_per_cpu_second_count_what_the_server_used() -> None:
    """Half a machine for half the rate is the same efficiency."""
    cells = {"ours": [Cell(100, 1, 1, server_cores=0.5)], "naive": [Cell(200, 1, 1, server_cores=1.0)]}

    assert 1.0 == rows_of("MLP", "per CPU second", per_core, cells, {}, [Versus("naive", "naive")])[0].ratio


@pytest.mark.parametrize(
    "form", [forms.V2_BINARY, forms.V2_BASE64, forms.BYTES, forms.MULTIPART], ids=lambda form: form.name
)
def test_dense_forms_carry_the_row_itself(form: forms.Form) -> None:
    """Four bytes a number, base64's third on top where the server knows nothing denser."""
    rows = np.ones((1, 3, 224, 224), np.float32)

    assert len(form.write(models.RESNET, rows).body) < 1.34 * rows.nbytes + 500

"""How fast a model comes from S3: `fetch` against boto3's download_file, both from nginx on loopback.

`python -m benchmarks.download` prints one JSON object. nginx answers HEAD, GET, Range and If-Match as S3 does and
costs little; moto is no reference for speed. Each client runs in a process of its own, in turn, and is timed from
making its boto3 client to the file being there. `fetch` also verifies the file's sha256 within its time; of the others
only `verified` does, which is download_file and hashlib behind it. `plain` is the limit: one ranged GET into a
preallocated file by http.client.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import hashlib
import http.client
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
MEMORY = Path("/dev/shm")  # noqa: S108 - the directory made in it has a name of its own
BUCKET, MODEL, MANIFEST = "bench", "model.onnx", "manifest.json"
CONFIGURATION = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{ listen 127.0.0.1:{port}; root {objects}; }}
}}
"""


def measure(*, size_mib: int = 1024, rounds: int = 3) -> dict[str, Any]:
    """Medians of `rounds` interleaved rounds, in MB/s of wall time and CPU seconds of the client's process."""
    # In memory, where there is such a place: from a disk that has to read it again, it is the disk that is measured.
    memory = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 * size_mib * MIB else None
    with _temporary() as directory, _temporary(memory) as objects:
        digest = _write_objects(objects / BUCKET, size_mib)
        with _nginx(directory, objects) as port:
            runs = [{client: _run(client, port, directory) for client in CLIENTS} for _ in range(rounds)]
    result: dict[str, Any] = {"size_mib": size_mib, "rounds": runs}
    for client in CLIENTS:
        result[f"{client}_mb_s"] = statistics.median(run[client]["mb_s"] for run in runs)
        result[f"{client}_cpu_s"] = statistics.median(run[client]["cpu_s"] for run in runs)
    result["sha_ok"] = all(run[client].pop("sha256") == digest for run in runs for client in CLIENTS)
    return result


@contextlib.contextmanager
def _temporary(parent: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="onnxship-download-", dir=parent) as name:
        yield Path(name)


def _write_objects(directory: Path, size_mib: int) -> str:
    directory.mkdir(parents=True)
    digest = hashlib.sha256()
    with (directory / MODEL).open("wb") as model:
        for _ in range(size_mib):
            block = os.urandom(MIB)
            digest.update(block)
            model.write(block)
    file = {"name": MODEL, "sha256": digest.hexdigest(), "size_bytes": size_mib * MIB, "key": MODEL, "version_id": "1"}
    (directory / MANIFEST).write_text(json.dumps({"format": "onnxship.model/1", "name": "bench", "files": [file]}))
    return digest.hexdigest()


@contextlib.contextmanager
def _nginx(directory: Path, objects: Path) -> Iterator[int]:
    """nginx that serves `objects`, with its own files in `directory`; the port."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        raise SystemExit("nginx is not installed. Fix: apt-get install nginx-light")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory, objects=objects, port=port, user=user))
    process = subprocess.Popen(
        [program, "-p", str(directory), "-e", f"{directory}/error.log", "-c", str(configuration)]
    )
    try:
        _wait_listening(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise SystemExit(f"nginx does not listen on port {port} (exit status {process.poll()})")


def _run(client: str, port: int, directory: Path) -> dict[str, Any]:
    target = directory / "fetched"
    target.mkdir()
    credentials = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "eu-west-1"}
    environment = os.environ | credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        command = [sys.executable, "-m", "benchmarks.download", "--client", client, "--into", str(target)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return dict(json.loads(done.stdout))
    finally:
        shutil.rmtree(target)


def _time(client: str, target: Path) -> dict[str, Any]:
    """One client's run in this process; what it has stored is verified after its time."""
    import boto3  # noqa: F401 - the time of its import is no client's

    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    path = CLIENTS[client](target)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    with path.open("rb") as stored:
        digest = hashlib.file_digest(stored, "sha256").hexdigest()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    mb_s = path.stat().st_size / seconds / 1e6
    return {"mb_s": round(mb_s, 1), "cpu_s": round(cpu_s, 3), "rss_mb": after.ru_maxrss // 1024, "sha256": digest}


def _ours(target: Path) -> Path:
    from model_service.settings import Settings
    from model_service.store import fetch

    return fetch(Settings(f"s3://{BUCKET}/{MANIFEST}", "1", model_dir=target)).model_path


def _boto3(target: Path) -> Path:
    import boto3

    boto3.client("s3").download_file(BUCKET, MODEL, str(target / MODEL))
    return target / MODEL


def _verified(target: Path) -> Path:
    with _boto3(target).open("rb") as stored:
        hashlib.file_digest(stored, "sha256")
    return target / MODEL


def _plain(target: Path) -> Path:
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    connection.request("GET", f"/{BUCKET}/{MODEL}", headers={"Range": "bytes=0-"})
    answer, buffer, position = connection.getresponse(), memoryview(bytearray(4 * MIB)), 0
    with (target / MODEL).open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, int(answer.headers["Content-Length"]))
        while count := answer.readinto(buffer):
            position += os.pwrite(file.fileno(), buffer[:count], position)
    connection.close()
    return target / MODEL


CLIENTS: dict[str, Callable[[Path], Path]] = {"ours": _ours, "boto3": _boto3, "verified": _verified, "plain": _plain}


def main() -> None:
    """Measure and print; with --client, be one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    result = _time(asked.client, asked.into) if asked.client else measure(size_mib=asked.size_mib, rounds=asked.rounds)
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""`python -m loadtests.task`: one of this package's programs as a one-off ECS task inside the VPC.

The job is JSON in ONNXSHIP_GATE_JOB: the program and its arguments, its inputs in S3 pinned by VersionId and sha256,
and the key that the result goes to, which is written once. A failure is a result too, so that whoever waits can say
why. The secret of the gate's header comes in ONNXSHIP_GATE_SECRET, which ECS fills from Secrets Manager.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3

PROGRAMS = ("loadtests", "loadtests.golden")
JOB, SECRET = "ONNXSHIP_GATE_JOB", "ONNXSHIP_GATE_SECRET"
LAST_LINES = 8


class Failed(Exception):
    """The job could not be done; the text says why."""


def main() -> None:
    """Do the job, write its result; exit code 1 when that is a failure."""
    job = json.loads(os.environ[JOB])
    s3 = boto3.client("s3")
    try:
        with tempfile.TemporaryDirectory(prefix="gate-") as scratch:
            answer: dict[str, Any] = {"result": do(job, s3, Path(scratch))}
    except Exception as error:
        # Whatever it was, it must reach the one who waits: without a result they only know that there is none.
        answer = {"failure": str(error) if isinstance(error, Failed) else repr(error)}
    body = json.dumps(answer).encode()
    s3.put_object(Bucket=job["bucket"], Key=job["result_key"], Body=body, IfNoneMatch="*")
    if "failure" in answer:
        sys.exit(answer["failure"])


def do(job: dict[str, Any], s3: Any, folder: Path) -> Any:
    """The program's own result."""
    if job["program"] not in PROGRAMS:
        raise Failed(f"there is no program {job['program']!r}")
    words = [sys.executable, "-m", job["program"], *job["arguments"]]
    for name, pin in job["inputs"].items():
        (folder / name).write_bytes(fetch(s3, job["bucket"], pin))
        words += [f"--{name}", str(folder / name)]
    (folder / "headers").write_text(json.dumps(dict.fromkeys(job["secret_headers"], os.environ.get(SECRET, ""))))
    output = folder / "result"
    run([*words, "--headers", str(folder / "headers"), "--output", str(output)], job["timeout_s"])
    return json.loads(output.read_text())


def fetch(s3: Any, bucket: str, pin: dict[str, str]) -> bytes:
    """An input as it was pinned."""
    content: bytes = s3.get_object(Bucket=bucket, Key=pin["key"], VersionId=pin["version_id"])["Body"].read()
    if hashlib.sha256(content).hexdigest() != pin["sha256"]:
        raise Failed(f"s3://{bucket}/{pin['key']} is not what was published: its sha256 differs")
    return content


def run(words: list[str], timeout_s: float) -> None:
    """The program as a child that ends with this process; what it says is this task's log."""
    in_time = True
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        signal.signal(signal.SIGTERM, lambda *_: (child.kill(), os._exit(143)))
        try:
            said, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            in_time, (said, _) = False, child.communicate()
    sys.stdout.write(said)
    if not in_time:
        raise Failed(f"{words[2]} did not end within {timeout_s:.0f} s")
    if child.returncode != 0:
        last = "; ".join(said.strip().splitlines()[-LAST_LINES:])
        raise Failed(f"{words[2]} ended with exit code {child.returncode}: {last}")


if __name__ == "__main__":
    main()

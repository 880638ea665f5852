"""`python -m loadtests.task`, with moto's S3 as the bucket: inputs by pins, the result once, failures too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@dataclass
class Bucket:
    """The bucket, and a job for what lies in it."""

    name: str
    s3: Any
    environment: dict[str, str]
    job: dict[str, Any]

    def run(self, **changes: Any) -> subprocess.CompletedProcess[str]:
        variables = {"ONNXSHIP_GATE_JOB": json.dumps(self.job | changes), "ONNXSHIP_GATE_SECRET": "sesame"}
        return subprocess.run(
            [sys.executable, "-m", "loadtests.task"],
            env=self.environment | variables, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads(self.s3.get_object(Bucket=self.name, Key=self.job["result_key"])["Body"].read()))


@pytest.fixture
def bucket(site, model_files) -> Iterator[Bucket]:
    bucket = f"artifacts-{uuid.uuid4()}"
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = os.environ | {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    s3 = boto3.client("s3", "eu-west-1", endpoint_url=environment["AWS_ENDPOINT_URL"],
                      aws_access_key_id="test", aws_secret_access_key="test")  # fmt: skip
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    inputs = {}
    for name, path in zip(("manifest", "golden"), model_files, strict=True):
        content = path.read_bytes()
        version = s3.put_object(Bucket=bucket, Key=f"models/toy/{name}", Body=content)["VersionId"]
        sha256 = hashlib.sha256(content).hexdigest()
        inputs[name] = {"key": f"models/toy/{name}", "version_id": version, "sha256": sha256}
    job = {
        "program": "loadtests.golden", "arguments": ["--url", site.url], "timeout_s": 60, "bucket": bucket,
        "inputs": inputs, "secret_headers": ["X-Onnxship-Gate"], "result_key": "loadtests/e/toy/v1/result.json",
    }  # fmt: skip
    yield Bucket(bucket, s3, environment, job)
    server.stop()


def test_the_programs_result_lies_under_its_key(bucket, site):
    """Inputs are those that were pinned, whatever lies there now; the secret goes into the header and nowhere else."""
    bucket.s3.put_object(Bucket=bucket.name, Key="models/toy/golden", Body=b"newer")

    ended = bucket.run()

    assert 0 == ended.returncode, ended.stderr
    assert 10 == bucket.result["result"]["rows"]
    assert {"sesame"} == {secret for _, _, secret in site.asked}
    assert "sesame" not in json.dumps(bucket.result) + ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"program": "os"}, "there is no program 'os'"),
        ({"arguments": ["--what"]}, "ended with exit code 2"),
        ({"timeout_s": 0.01}, "did not end within 0 s"),
        ({"inputs": {"golden": {"key": "models/toy/none", "version_id": "1", "sha256": ""}}}, "NoSuch"),
    ],
)
def test_a_failure_is_a_result(bucket, changes, words):
    """Who waits reads the reason in S3, and the exit code is 1."""
    ended = bucket.run(**changes)

    assert 1 == ended.returncode
    assert words in bucket.result["failure"]


def test_an_input_that_was_changed_is_refused(bucket):
    """Its sha256 is what was published, or nothing is measured."""
    bucket.job["inputs"]["golden"]["sha256"] = "0" * 64

    bucket.run()

    assert "its sha256 differs" in bucket.result["failure"]


def test_a_result_is_written_once(bucket):
    """What one task measured, no other replaces."""
    first = bucket.run()
    measured = bucket.result
    second = bucket.run(program="os")

    assert (0, 1) == (first.returncode, second.returncode)
    assert "PreconditionFailed" in second.stderr
    assert measured == bucket.result

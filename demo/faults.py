"""The bad releases of the story: each is a commit of the demo's repository, as somebody might really make it.

What is wrong stands in the user's own files alone: the model, service.py, the image that lies in the registry. In the
order of the story each gets a little further than the one before; the last one gets into production.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from demo.repository import SERVICE

PERMUTED = "permuted"  # a model of demo.models whose classes are in another order
FINDING = {
    "name": "CVE-2024-3094",
    "severity": "CRITICAL",
    "description": "Malicious code in xz: liblzma is modified so that sshd can be entered.",
    "uri": "https://nvd.nist.gov/vuln/detail/CVE-2024-3094",
    "attributes": [
        {"key": "package_name", "value": "xz-utils"},
        {"key": "package_version", "value": "5.6.1-1"},
        {"key": "fixed_in_version", "value": "5.6.1+really5.4.5-1"},
    ],
}


@dataclass(frozen=True)
class Fault:
    """A release that must not reach users: what is wrong with it, who must notice, and in which words.

    `gate` is the stage or gate that stops it, `says` what its reason must contain. `rollout` is merged into the
    configuration's section of that name.
    """

    release: str
    words: str
    gate: str
    says: str
    commit: str
    why: str
    service: str = SERVICE
    model: str = "v2"
    rollout: dict[str, int] = field(default_factory=dict)
    exit_code: int = 3


ARM64 = Fault(
    release="arm64",
    words="the image that lies under this commit's tag was built for arm64",
    gate="build",
    says="linux/arm64",
    commit="Name the five likeliest digits",
    why="""
A colleague was quicker: the image for this commit is in the registry already, pushed by hand from a laptop
with an ARM processor. On Fargate's x86 every task of it would end with "exec format error".
""",
    service=SERVICE.replace("[:3]", "[:5]").replace("top3", "top5").replace("three", "five"),
)

CRITICAL_FINDING = Fault(
    release="critical-finding",
    words="the image's scan has a critical finding that a newer package would mend",
    gate="scan",
    says="CVE-2024-3094",
    commit="Name the two likeliest digits",
    why="""
Built in a second, but ECR's scan knows a critical vulnerability in it: CVE-2024-3094, the back door in xz.
""",
    service=SERVICE.replace("[:3]", "[:2]").replace("top3", "top2").replace("three", "two"),
)

PERMUTED_CLASSES = Fault(
    release="permuted",
    words="the model's classes are in another order",
    gate="publish",
    says="accuracy",
    commit="Retrain on the new export of the labels",
    why="""
The training data was exported anew, with the classes in another order. The model is as good as ever, only that
it now says 1 for a 0. Its answers to our labelled inputs are measured here, before anything is deployed.
""",
    model=PERMUTED,
)

CRASHES = Fault(
    release="crashes",
    words="the container ends at its start: a setting that it reads is not there",
    gate="rollout",
    says="FEATURE_STORE_URL",
    commit="Read features from the feature store",
    why="""
The new code reads an environment variable that is set on the author's machine and nowhere else. ECS would try
again for hours; here two failed tasks are enough, and their last words are shown.
""",
    service='''\
"""Read features from the feature store."""

import os

SETTINGS = {}


def startup() -> None:
    SETTINGS["features"] = os.environ["FEATURE_STORE_URL"]
''',
    rollout={"max_failed_tasks": 2},
)

NEVER_HEALTHY = Fault(
    release="never-healthy",
    words="the health check never passes: startup() waits for a licence server that is not there",
    gate="rollout",
    says="rollout.start_deadline_s",
    commit="Ask for a licence first",
    why="""
The container runs, but waits for a licence server that nobody can reach from there: it is never ready, and it
never fails. The release's own deadline, 10 s in this commit, ends the wait.
""",
    service='''\
"""Serve only with a licence."""

import socket
import time

LICENCES = ("licences.invalid", 27000)


def startup() -> None:
    while True:
        try:
            socket.create_connection(LICENCES, timeout=1).close()
            return
        except OSError:
            print(f"waiting for the licence server {LICENCES[0]}:{LICENCES[1]}", flush=True)
            time.sleep(2)
''',
    rollout={"start_deadline_s": 10},
)

WRONG_ANSWERS = Fault(
    release="wrong-answers",
    words="the image's code answers wrongly: a cache takes different images for the same one",
    gate="golden",
    says="golden",
    commit="Cache answers",
    why="""
The model is right, the image is healthy and quick, quicker than ever: its code remembers answers, under a key
that many images share. Only its answers give it away, asked for on a listener that no user reaches.
""",
    service='''\
"""Answer images that were seen before from a cache."""

import onnxruntime

ANSWERS = {}


def startup() -> None:
    run = onnxruntime.InferenceSession.run

    def cached(session, output_names, inputs, *more):
        pixels = inputs["X"]
        key = (tuple(output_names), pixels.shape, round(float(pixels.mean()), 1))
        if key not in ANSWERS:
            ANSWERS[key] = run(session, output_names, inputs, *more)
        return ANSWERS[key]

    onnxruntime.InferenceSession.run = cached
''',
)

SLOW = Fault(
    release="slow",
    words="every answer takes 50 ms longer: the code asks a database far away for each request",
    gate="load",
    says="slower than what serves",
    commit="Enrich requests",
    why="""
Right answers, and within every limit, but each request now waits 50 ms for a database far away. Locust sends the
same requests to this release and, side by side, to the one that serves: the same users would wait longer.
""",
    service='''\
"""Look every request up in the customer database before it is answered."""

import json
import time

import numpy as np

ROUND_TRIP_S = 0.05


def preprocess(request: bytes, content_type: str) -> dict[str, np.ndarray]:
    body = json.loads(request)
    time.sleep(ROUND_TRIP_S)  # the customer database is far away
    rows = body["inputs"] if "inputs" in body else [body["input"]]
    return {"X": np.asarray(rows, np.float32)}
''',
)

NO_BATCHES = Fault(
    release="no-batches",
    words="passes every gate, and answers 500 to users who send several images at once",
    gate="bake",
    says="alarm",
    commit="Read requests ourselves",
    why="""
The last one passes every gate: none of them sends several images in one request, as a fifth of the users do. After
production has shifted, ECS watches it beside the old release, and an alarm takes it back.
""",
    service='''\
"""Read the request ourselves, to log what is sent."""

import json

import numpy as np


def preprocess(request: bytes, content_type: str) -> dict[str, np.ndarray]:
    row = json.loads(request)["input"]
    return {"X": np.asarray([row], np.float32)}
''',
    exit_code=4,
)

BEFORE_ANY_TASK = (ARM64, CRITICAL_FINDING, PERMUTED_CLASSES)
BEFORE_PRODUCTION = (CRASHES, NEVER_HEALTHY, WRONG_ANSWERS, SLOW)
FAULTS = (*BEFORE_ANY_TASK, *BEFORE_PRODUCTION, NO_BATCHES)

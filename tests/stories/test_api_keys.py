"""A service that asks for API keys, with a certificate in its configuration, shipped twice in the local AWS."""

import hashlib
import json
import urllib.error
import urllib.request
from typing import Any

import boto3
import pytest

from tests.stories.conftest import Project

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(300)]

CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/1"


@pytest.fixture(scope="module")
def guarded(rehearsal: Project) -> Project:
    """The project with a secret that holds one key."""
    keys = {"keys": [{"id": "app", "sha256": hashlib.sha256(b"k-app").hexdigest()}]}
    names = {
        "endpoint_url": "AWS_ENDPOINT_URL", "region_name": "AWS_REGION",
        "aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip
    secrets = boto3.client("secretsmanager", **{key: rehearsal.environment[name] for key, name in names.items()})
    arn = secrets.create_secret(Name="iris/api-keys", SecretString=json.dumps(keys))["ARN"]
    settings = rehearsal.directory / "onnxship.yaml"
    text = settings.read_text().replace("allow_http: true", f'certificate_arn: "{CERTIFICATE}"\n  domain: iris.invalid')
    keyed = f'    environment: {{API_KEYS_SECRET_ARN: "{arn}"}}\n    model:\n'
    settings.write_text(text.replace("    model:\n", keyed, 1))
    rehearsal.commit("Ask for API keys")
    return rehearsal


def ship(project: Project, release: str) -> dict[str, Any]:
    ended = project.onnxship("ship", "--release", release, "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    return dict(ended.json)


def status(url: str, headers: dict[str, str]) -> int:
    request = urllib.request.Request(
        f"{url}/predict", data=json.dumps({"input": [5.1, 3.5, 1.4, 0.2]}).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_gates_have_a_key_and_callers_need_one(guarded: Project) -> None:
    """Both releases pass their gates, the second beside the first; only who has a key is answered in production."""
    ship(guarded, "v1")
    guarded.train(c=0.5)
    guarded.commit("Another model")
    second = ship(guarded, "v2")

    assert {"golden": "pass", "load": "pass"} == {gate["name"]: gate["verdict"] for gate in second["gates"]}
    assert "p50_ratio" in next(gate["numbers"] for gate in second["gates"] if gate["name"] == "load")
    url = str(second["production_url"])
    assert [401, 401, 200] == [status(url, {}), status(url, {"X-Api-Key": "k"}), status(url, {"X-Api-Key": "k-app"})]


def test_a_load_test_of_production_has_the_gates_key(guarded: Project) -> None:
    """`onnxship loadtest` asks what serves as the gates do."""
    ended = guarded.onnxship("loadtest", "--output", "json")
    assert (0, 0) == (ended.exit_code, ended.json["failures"]), ended.stderr

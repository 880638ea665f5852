"""What the local AWS lacks is said clearly, in every protocol."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from rehearsal.not_rehearsed import Call, NotRehearsed, error

GAPS = [
    pytest.param(
        "ce",
        "create_anomaly_monitor",
        {"AnomalyMonitor": {"MonitorName": "m", "MonitorType": "CUSTOM"}},
        "ce:CreateAnomalyMonitor",
        id="json",
    ),
    pytest.param(
        "iam",
        "simulate_custom_policy",
        {"PolicyInputList": ["{}"], "ActionNames": ["s3:*"]},
        "iam:SimulateCustomPolicy",
        id="query",
    ),
    pytest.param("ec2", "describe_fast_launch_images", {}, "ec2:DescribeFastLaunchImages", id="ec2"),
    pytest.param("lambda", "get_account_settings", {}, "lambda:GetAccountSettings", id="rest-json"),
    pytest.param(
        "route53", "get_account_limit", {"Type": "MAX_HEALTH_CHECKS_BY_OWNER"}, "route53:GetAccountLimit", id="rest-xml"
    ),
    pytest.param(
        "s3", "list_bucket_metrics_configurations", {"Bucket": "b"}, "s3:ListBucketMetricsConfigurations", id="s3"
    ),
    pytest.param(
        "pricing", "get_products", {"ServiceCode": "AmazonECS"}, "pricing:GetProducts", id="unknown service, json"
    ),
    pytest.param("geo-places", "geocode", {"QueryText": "x"}, "geo-places:", id="unknown service, rest-json"),
]


@pytest.mark.parametrize(("service", "operation", "request_", "name"), GAPS)
def test_an_action_that_is_not_rehearsed_says_so_as_a_client_error(
    client: Callable[..., Any], service: str, operation: str, request_: dict[str, Any], name: str
) -> None:
    """Whatever the protocol, boto3 raises ClientError NotRehearsed after one attempt, naming the action."""
    with pytest.raises(ClientError) as caught:
        getattr(client(service, attempts=3), operation)(**request_)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "NotRehearsed"
    assert name in answer["Error"]["Message"]
    assert "is not rehearsed. The local AWS knows it only by name." in answer["Error"]["Message"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0


def test_the_report_remembers_what_was_asked_for_in_vain(up: dict[str, Any], client: Callable[..., Any]) -> None:
    """Every unrehearsed call stands in the report."""
    with pytest.raises(ClientError):
        client("pricing").describe_services()
    with urlopen(f"{up['endpoint']}/_rehearsal/report") as page:
        assert b"pricing:DescribeServices" in page.read()


def test_a_rehearsed_errors_own_code_passes_unchanged(client: Callable[..., Any]) -> None:
    """AWS's own refusals stay what they are, an S3 404 without a body too."""
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client("s3").list_objects_v2(Bucket="nobody-has-this")
    with pytest.raises(ClientError) as caught:
        client("s3").head_bucket(Bucket="nobody-has-this")
    assert caught.value.response["Error"]["Code"] == "404"


def test_an_exception_in_a_handler_is_an_internal_failure_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A crash is answered as AWS would, never as a page of HTML, and can be found in the log."""

    def crashes(environ: Any, start_response: Any) -> list[bytes]:
        raise KeyError("taskDefinition")

    with caplog.at_level(logging.ERROR):
        status, headers, body = _ask(NotRehearsed(crashes), HTTP_X_AMZ_TARGET="AmazonEC2Container.DescribeServices")
    assert status == "500 Internal Server Error"
    assert b'"__type": "InternalFailure"' in body
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    assert "KeyError: 'taskDefinition'" in caplog.text


def test_an_html_page_never_reaches_the_caller() -> None:
    """Flask's own 404 page becomes NotRehearsed."""

    def lost(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 NOT FOUND", [("Content-Type", "text/html")])
        return [b"<!doctype html>\n<title>404 Not Found</title>"]

    status, _, body = _ask(NotRehearsed(lost), PATH_INFO="/2030-01-01/things")
    assert status == "501 Not Implemented"
    assert b"unknown:GET /2030-01-01/things is not rehearsed" in body


@pytest.mark.parametrize("protocol", ["json", "rest-json", "query", "ec2", "rest-xml", "smithy-rpc-v2-cbor"])
def test_botocore_reads_the_error_in_every_protocol(protocol: str) -> None:
    """botocore's own parsers find code and message."""
    call = Call("svc", "Act", "cbor" if protocol == "smithy-rpc-v2-cbor" else protocol)
    _, headers, body = error(call, 501, "NotRehearsed", "svc:Act & more <is> not rehearsed.")
    parsed = create_parser(protocol).parse(
        {"status_code": 501, "headers": {key.lower(): value for key, value in headers}, "body": b"".join(body)}, None
    )
    assert parsed["Error"]["Code"] == "NotRehearsed"
    assert parsed["Error"]["Message"] == "svc:Act & more <is> not rehearsed."


def test_a_name_that_is_not_loopback_is_refused(up: dict[str, Any]) -> None:
    """A page in a browser that points its own name at this machine does not reach the local AWS."""
    import httpx

    answer = httpx.get(f"{up['endpoint']}/_rehearsal/health", headers={"Host": "evil.example:80"})
    assert answer.status_code == 403
    assert httpx.get(f"{up['endpoint']}/_rehearsal/health").json() == {"status": "up", "pid": up["pid"]}


def _ask(app: NotRehearsed, **environ: Any) -> tuple[str, dict[str, str], bytes]:
    started: list[Any] = []
    base = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "wsgi.input": io.BytesIO()}
    body = b"".join(app({**base, **environ}, lambda status, headers: started.append((status, dict(headers)))))
    return *started[0], body

"""The local AWS as the story looks at it from outside: its environment, its logs, and what other people do there."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
import urllib.request
from base64 import b64decode, b64encode
from collections import Counter
from typing import Any

import boto3

from demo.faults import FINDING

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
BILLING_REGION = "us-east-1"  # AWS publishes the bill nowhere else
SUBSCRIBER = "the-person-who-pays"
DELIVERY_TIMEOUT_S = 20


class LocalAws:
    """The endpoint that `onnxship rehearse env` names; `environment` is what points any AWS tool at it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._endpoint = environment["AWS_ENDPOINT_URL"]

    def ask(self, what: str, body: Any = None) -> Any:
        """The rehearsal's answer to a question beside AWS's API, or to what is told it there."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self._endpoint}/_rehearsal/{what}", data)  # noqa: S310 - a loopback URL
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
            text = answer.read().decode()
        return [json.loads(line) for line in text.splitlines()] if what == "access-log" else json.loads(text)

    def client(self, service: str, region: str = "") -> Any:
        """A boto3 client of the local AWS."""
        return boto3.client(
            service,
            endpoint_url=self._endpoint,
            region_name=region or self.environment["AWS_REGION"],
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",  # noqa: S106 - the local AWS takes any
        )

    def outputs(self, stack: str, region: str = "") -> dict[str, str]:
        """The outputs of a stack."""
        (described,) = self.client("cloudformation", region).describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def record(self, release: str) -> dict[str, Any]:
        """What the release's record in S3 says."""
        bucket = self.outputs("digits-production-registry")["ArtifactBucketName"]
        key = f"releases/production/digits/{release}/record.json"
        return dict(json.loads(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()))

    def answered(self, port: int) -> list[tuple[str, str]]:
        """Of each request at the listener, from the load balancer's log: who sent it and which release answered."""
        entries = [entry for entry in self.ask("access-log") if entry["listener_port"] == port]
        release_of = {arn: self._release_of(arn) for arn in {entry["task_arn"] for entry in entries} - {None}}
        return [(entry["user_agent"], release_of.get(entry["task_arn"], "")) for entry in entries]

    def _release_of(self, task_arn: str) -> str:
        ecs = self.client("ecs")
        (task,) = ecs.describe_tasks(cluster=task_arn.split("/")[1], tasks=[task_arn])["tasks"]
        revision = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
        environment = revision["containerDefinitions"][0]["environment"]
        return next((item["value"] for item in environment if item["name"] == "RELEASE_ID"), "")

    def find_something(self, tag: str) -> None:
        """ECR's next scan of the image with this tag has a critical finding."""
        seed = {"imageTag": tag, "imageScanFindings": {"findings": [FINDING]}}
        self.ask("scan-findings", {"repositoryName": "digits-production"} | seed)

    def push_from_an_arm_machine(self, tag: str) -> None:
        """Somebody pushes an image for linux/arm64 under this tag: the newest image, as their machine builds it."""
        ecr = self.client("ecr")
        repository = self.outputs("digits-production-registry")["RepositoryName"]
        newest = max(ecr.describe_images(repositoryName=repository)["imageDetails"], key=lambda i: i["imagePushedAt"])
        image_id = {"imageDigest": newest["imageDigest"]}
        (image,) = ecr.batch_get_image(repositoryName=repository, imageIds=[image_id])["images"]
        manifest = json.loads(image["imageManifest"])
        registry = Registry(ecr.get_authorization_token()["authorizationData"][0], repository)
        config = json.loads(registry.blob(manifest["config"]["digest"])) | {"architecture": "arm64"}
        manifest["config"] |= registry.push_blob(json.dumps(config).encode())
        registry.push_manifest(json.dumps(manifest).encode(), tag)

    def subscribe_to_the_bill(self) -> str:
        """A queue that gets what the billing alarm has to tell; its URL."""
        sqs, topic = self.client("sqs", BILLING_REGION), self.billing_topic
        queue = sqs.create_queue(QueueName=SUBSCRIBER)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.client("sns", BILLING_REGION).subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return str(queue)

    @property
    def billing_topic(self) -> str:
        return self.outputs("digits-production-billing", BILLING_REGION)["BillingTopicArn"]

    def put_bill(self, usd: float) -> None:
        """The month's bill so far, as AWS counts it a few times a day."""
        datum = {"MetricName": "EstimatedCharges", "Dimensions": [{"Name": "Currency", "Value": "USD"}], "Value": usd}
        self.client("cloudwatch", BILLING_REGION).put_metric_data(Namespace="AWS/Billing", MetricData=[datum])

    def next_message(self, queue: str) -> dict[str, Any]:
        """The next message of the queue, as SNS wrote it; empty when none came in time."""
        asked = {"QueueUrl": queue, "WaitTimeSeconds": DELIVERY_TIMEOUT_S, "MaxNumberOfMessages": 1}
        messages = self.client("sqs", BILLING_REGION).receive_message(**asked).get("Messages", [])
        return dict(json.loads(messages[0]["Body"])) if messages else {}


class Registry:
    """ECR's registry API, as `docker push` speaks it."""

    def __init__(self, authorization: dict[str, Any], repository: str) -> None:
        self._url = f"{authorization['proxyEndpoint']}/v2/{repository}"
        basic = b64encode(b64decode(authorization["authorizationToken"])).decode()
        self._headers = {"Authorization": f"Basic {basic}"}

    def blob(self, digest: str) -> bytes:
        """A blob's bytes."""
        return self._send("GET", f"{self._url}/blobs/{digest}")[1]

    def push_blob(self, content: bytes) -> dict[str, Any]:
        """Push a blob; its digest and size as a manifest names them."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        location, _ = self._send("POST", f"{self._url}/blobs/uploads/")
        place = urllib.parse.urljoin(self._url, location)
        separator = "&" if "?" in place else "?"
        self._send("PUT", f"{place}{separator}digest={digest}", content, "application/octet-stream")
        return {"digest": digest, "size": len(content)}

    def push_manifest(self, content: bytes, tag: str) -> None:
        """Push a manifest under a tag."""
        self._send("PUT", f"{self._url}/manifests/{tag}", content, MANIFEST_TYPE)

    def _send(self, method: str, url: str, content: bytes = b"", content_type: str = "") -> tuple[str, bytes]:
        headers = self._headers | ({"Content-Type": content_type} if content_type else {})
        asked = urllib.request.Request(url, content or None, headers, method=method)  # noqa: S310 - a loopback URL
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
            return answer.headers.get("Location", ""), answer.read()


def by_release(answered: list[tuple[str, str]], user_agent: str = "") -> Counter[str]:
    """Requests by the release that answered, of one sender or of all."""
    return Counter(release for sender, release in answered if user_agent in ("", sender))

"""AWS Secrets Manager: one plain string."""

from __future__ import annotations

from pipeline.aws.session import Aws


def secret_value(aws: Aws, arn: str) -> str:
    return str(aws.call("secretsmanager", "get_secret_value", SecretId=arn)["SecretString"])

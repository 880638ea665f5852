"""Amazon ECR and S3 as what is left behind: whether an image is there, and emptying both for good."""

from __future__ import annotations

from pipeline.aws.session import Aws
from pipeline.errors import AwsError

GONE_CODES = ("RepositoryNotFoundException", "NoSuchBucket", "404")


def image_exists(aws: Aws, repository: str, image_digest: str) -> bool:
    """Whether the repository still holds the image."""
    try:
        aws.call("ecr", "describe_images", repositoryName=repository, imageIds=[{"imageDigest": image_digest}])
    except AwsError as error:
        if error.code in ("ImageNotFoundException", "RepositoryNotFoundException"):
            return False
        raise
    return True


def delete_repository(aws: Aws, repository: str) -> None:
    """Delete a repository with all its images; one that is gone is no error."""
    try:
        aws.call("ecr", "delete_repository", repositoryName=repository, force=True)
    except AwsError as error:
        if error.code not in GONE_CODES:
            raise


def delete_bucket(aws: Aws, bucket: str) -> None:
    """Delete a bucket with every version of every object; one that is gone is no error."""
    try:
        _delete_versions(aws, bucket)
        aws.call("s3", "delete_bucket", Bucket=bucket)
    except AwsError as error:
        if error.code not in GONE_CODES:
            raise


def _delete_versions(aws: Aws, bucket: str) -> None:
    while True:
        page = aws.call("s3", "list_object_versions", Bucket=bucket, MaxKeys=1000)
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if not found:
            return
        objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
        answer = aws.call("s3", "delete_objects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        if errors := answer.get("Errors"):
            raise AwsError(
                f"S3 did not delete {errors[0]['Key']} in {bucket}: {errors[0].get('Message', errors[0]['Code'])}",
                "run the same command again; if it stays, read the bucket's policy",
                code=errors[0]["Code"],
            )

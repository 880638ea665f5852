"""Tags in the ELBv2 API."""

from __future__ import annotations

from typing import Any

from rehearsal.balancer.estate import Estate

Request = dict[str, Any]


class Tags:
    """AddTags and its like, for everything that the API makes."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate

    async def add_tags(self, asked: Request) -> Request:
        """Tags for every resource named, all or none."""
        for tags in self._of(asked):
            tags.update({tag["Key"]: tag.get("Value", "") for tag in asked["Tags"]})
        return {}

    async def remove_tags(self, asked: Request) -> Request:
        """The tags taken from every resource named."""
        for tags in self._of(asked):
            for key in asked["TagKeys"]:
                tags.pop(key, None)
        return {}

    async def describe_tags(self, asked: Request) -> Request:
        """The tags of every resource named."""
        found = zip(asked["ResourceArns"], self._of(asked), strict=True)
        return {
            "TagDescriptions": [
                {"ResourceArn": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                for arn, tags in found
            ]
        }

    def _of(self, asked: Request) -> list[dict[str, str]]:
        return [self._tags(arn) for arn in asked["ResourceArns"]]

    def _tags(self, arn: str) -> dict[str, str]:
        if ":targetgroup/" in arn:
            self._estate.target_group(arn)
        elif ":listener-rule/" in arn:
            self._estate.rule(arn)
        elif ":listener/" in arn:
            self._estate.listener(arn)
        else:
            self._estate.load_balancer(arn)
        return self._estate.tags.setdefault(arn, {})

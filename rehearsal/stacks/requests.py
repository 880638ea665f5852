"""What a request asks for, checked: which template, which parameters, which tags, and whether it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlparse

from botocore.exceptions import ClientError
from moto.core.exceptions import ServiceException

from rehearsal.context import Context
from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.existing import check_existing
from rehearsal.stacks.kinds import KINDS
from rehearsal.stacks.parameters import given_values
from rehearsal.stacks.resolving import active_resources, resolver
from rehearsal.stacks.stack import Stack, Target
from rehearsal.stacks.template import Template, parse

LONGEST_BODY_BYTES = 51_200
# Types that need CAPABILITY_IAM, and the property that makes it CAPABILITY_NAMED_IAM.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
IAM_TYPES = {"AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName"}
WHY_IAM = "The following resource(s) require capabilities: [{}]"


class ValidationError(ServiceException):
    code = "ValidationError"


class InsufficientCapabilities(ServiceException):
    code = "InsufficientCapabilitiesException"


@dataclass(frozen=True)
class Requests:
    """Turns request bodies into targets, in one region."""

    context: Context
    region: str

    def template(self, request: dict[str, Any], stack: Stack | None = None) -> Template:
        """The template that a request sends, points at, or keeps."""
        try:
            return parse(self._body(request, stack))
        except TemplateError as error:
            raise ValidationError(str(error)) from error

    def target(self, request: dict[str, Any], stack: Stack | None) -> Target:
        """What a stack shall be. Every fault that AWS finds before it starts is a ValidationError here."""
        template = self.template(request, stack)
        previous = stack.target.parameters if stack else {}
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        if stack and "Tags" not in request:
            tags = stack.target.tags
        try:
            values = given_values(template, request.get("Parameters", []), previous)
            check_existing(self.context, self.region, template, values)
        except TemplateError as error:
            raise ValidationError(str(error)) from error
        return Target(template, values, tags)

    def check_types(self, stack: Stack, target: Target) -> None:
        """Refuse resource types that are not rehearsed, unless their condition keeps them out."""
        active = self.checked(lambda: active_resources(resolver(self.context, stack, target)))
        unknown = sorted({entry["Type"] for entry in active.values()} - set(KINDS))
        if unknown:
            raise ValidationError(
                f"Template format error: Unrecognized resource types: [{', '.join(unknown)}] (not rehearsed)"
            )

    def checked(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; a fault of the template is a ValidationError."""
        try:
            return work()
        except TemplateError as error:
            raise ValidationError(str(error)) from error
        except ClientError as error:
            raise ValidationError(error.response["Error"].get("Message", str(error))) from error

    def _body(self, request: dict[str, Any], stack: Stack | None) -> str:
        if request.get("UsePreviousTemplate"):
            if stack is None:
                raise ValidationError("UsePreviousTemplate needs a stack that has a template")
            return stack.target.template.body
        if "TemplateURL" in request:
            return self._from_s3(request["TemplateURL"])
        if "TemplateBody" not in request:
            raise ValidationError("Either Template URL or Template Body must be specified.")
        body = str(request["TemplateBody"])
        if len(body.encode()) > LONGEST_BODY_BYTES:
            raise ValidationError(
                "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                f"Member must have length less than or equal to {LONGEST_BODY_BYTES}"
            )
        return body

    def _from_s3(self, url: str) -> str:
        """A template in S3, by path-style or virtual-hosted URL."""
        parsed = urlparse(url)
        host, path = parsed.hostname or "", unquote(parsed.path.lstrip("/"))
        if ".s3" in host:
            bucket, key = host.partition(".s3")[0], path
        else:
            bucket, _, key = path.partition("/")
        try:
            stored = self.context.client("s3", self.region).get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise ValidationError(f"S3 error: {error.response['Error'].get('Message')}") from error
        return str(stored["Body"].read().decode())


def needed_capabilities(template: Template) -> tuple[list[str], list[str]]:
    """(the capabilities that a template needs, the resources that need them)."""
    iam = [entry for entry in template.resources.values() if entry["Type"] in IAM_TYPES]
    if not iam:
        return [], []
    named = any(IAM_TYPES[entry["Type"]] in (entry.get("Properties") or {}) for entry in iam)
    return ["CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"], sorted({entry["Type"] for entry in iam})


def check_capabilities(template: Template, given: list[str], is_change_set: bool = False) -> None:
    """Refuse what was not acknowledged. A change set expands a transform without acknowledgement."""
    needed, _ = needed_capabilities(template)
    if template.transforms and not is_change_set:
        needed = [*needed, "CAPABILITY_AUTO_EXPAND"]
    implied = {"CAPABILITY_IAM"} if "CAPABILITY_NAMED_IAM" in given else set()
    missing = [name for name in needed if name not in {*given, *implied}]
    if missing:
        raise InsufficientCapabilities(f"Requires capabilities : [{', '.join(missing)}]")


def only_known(request: dict[str, Any], known: frozenset[str], ignored: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The request, unless it asks for something that would be silently left out."""
    for name, value in request.items():
        if name not in known | ignored and value not in (None, False, "", [], {}):
            raise ValidationError(f"{name} is not rehearsed")
    return request

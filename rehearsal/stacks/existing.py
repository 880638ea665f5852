"""Parameters of AWS-specific types must name things that exist before an operation starts.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-supplied-parameter-types.html
"""

from __future__ import annotations

from botocore.exceptions import ClientError

from rehearsal.context import Context
from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.template import Template

# type -> (EC2 operation, the argument that takes the ids)
LOOK_UPS = {
    "AWS::EC2::VPC::Id": ("describe_vpcs", "VpcIds"),
    "AWS::EC2::Subnet::Id": ("describe_subnets", "SubnetIds"),
    "AWS::EC2::SecurityGroup::Id": ("describe_security_groups", "GroupIds"),
}


def check_existing(context: Context, region: str, template: Template, values: dict[str, str]) -> None:
    """TemplateError when a parameter of such a type names something that is not there."""
    for key, value in values.items():
        kind = str(template.parameters[key]["Type"])
        is_list = kind.startswith("List<")
        kind = kind.removeprefix("List<").removesuffix(">") if is_list else kind
        if kind in LOOK_UPS:
            for part in value.split(",") if is_list else [value]:
                _check(context, region, kind, key, part.strip())


def _check(context: Context, region: str, kind: str, key: str, value: str) -> None:
    operation, argument = LOOK_UPS[kind]
    try:
        getattr(context.client("ec2", region), operation)(**{argument: [value]})
    except ClientError as error:
        raise TemplateError(
            f"Parameter validation failed: parameter value {value} for parameter name {key} does not exist"
        ) from error

"""Rules on IAM: exact actions, exact resources, and trust that names who is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.template_checks.reading import Faults, Template, items, text_of

GITHUB = "token.actions.githubusercontent.com"
# Actions for which AWS knows no narrower resource, or (ecs:ListTasks) narrows by a condition.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
WITHOUT_RESOURCE = frozenset(
    {
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:DescribeScheduledActions",
        "cloudformation:ListStacks",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "ecr:GetAuthorizationToken",
        "ecs:DescribeTaskDefinition",
        "ecs:ListTaskDefinitions",
        "ecs:ListTasks",
        "logs:DescribeIndexPolicies",
        "logs:DescribeLogGroups",
        "logs:DescribeResourcePolicies",
        "secretsmanager:GetRandomPassword",
        "sns:GetSubscriptionAttributes",
        "sns:ListTopics",
        "sns:Unsubscribe",
    }
)
READING_PREFIXES = ("ec2:Describe", "elasticloadbalancing:Describe")


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that grants, of roles' own policies and of managed ones, with its resource's logical id."""
    for logical_id, role in template.of_type("AWS::IAM::Role"):
        for policy in items(role.get("Policies")):
            yield from _allowing(logical_id, policy.get("PolicyDocument"))
    for kind in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "AWS::IAM::RolePolicy"):
        for logical_id, policy in template.of_type(kind):
            yield from _allowing(logical_id, policy.get("PolicyDocument"))


def _allowing(logical_id: str, document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for statement in items((document or {}).get("Statement")):
        if statement.get("Effect") == "Allow":
            yield logical_id, statement


def iam_exact_actions(template: Template) -> Faults:
    """No action with a wildcard, and no grant of everything but a list."""
    for logical_id, statement in statements(template):
        if "NotAction" in statement:
            yield logical_id, "grants everything that NotAction does not name; list the actions instead"
        for action in items(statement.get("Action")):
            if "*" in str(action):
                yield logical_id, f"grants `{action}`; list the actions instead"


def iam_exact_resources(template: Template) -> Faults:
    """Resource "*" only for actions that have no narrower one."""
    for logical_id, statement in statements(template):
        if "NotResource" in statement:
            yield logical_id, "grants on everything that NotResource does not name; list the resources instead"
        if "*" not in items(statement.get("Resource")):
            continue
        for action in map(str, items(statement.get("Action"))):
            if action not in WITHOUT_RESOURCE and not action.startswith(READING_PREFIXES):
                yield logical_id, f'grants `{action}` on Resource "*"; name its ARNs'


def iam_list_tasks_of_a_cluster(template: Template) -> Faults:
    """ecs:ListTasks is narrowed by the condition ecs:cluster."""
    for logical_id, statement in statements(template):
        listed = "ecs:ListTasks" in items(statement.get("Action"))
        if listed and "ecs:cluster" not in text_of(statement.get("Condition")):
            yield logical_id, "grants ecs:ListTasks for every cluster; add the condition ecs:cluster"


def iam_pass_role(template: Template) -> Faults:
    """A role is passed only to named services, and only roles that are named."""
    for logical_id, statement in statements(template):
        if "iam:PassRole" not in items(statement.get("Action")):
            continue
        if "iam:PassedToService" not in text_of(statement.get("Condition")):
            yield logical_id, "passes roles to any service; add the condition iam:PassedToService"
        if any(
            resource == "*" or text_of(resource).endswith(("role/*", 'role/*"}'))
            for resource in items(statement.get("Resource"))
        ):
            yield logical_id, "passes any role; name the roles"


def iam_oidc_trust(template: Template) -> Faults:
    """A role for GitHub asks for the audience and for one repository and environment, without wildcards.

    https://docs.github.com/en/actions/reference/security/oidc
    """
    for logical_id, role in template.of_type("AWS::IAM::Role"):
        for statement in items((role.get("AssumeRolePolicyDocument") or {}).get("Statement")):
            if "sts:AssumeRoleWithWebIdentity" not in items(statement.get("Action")):
                continue
            equal = (statement.get("Condition") or {}).get("StringEquals") or {}
            if items(equal.get(f"{GITHUB}:aud")) != ["sts.amazonaws.com"]:
                yield logical_id, f"trusts tokens for any audience; add StringEquals {GITHUB}:aud: sts.amazonaws.com"
            subjects = items(equal.get(f"{GITHUB}:sub"))
            if not subjects:
                yield logical_id, f"trusts every repository on GitHub; add StringEquals {GITHUB}:sub"
            if any("*" in text_of(subject) or ":environment:" not in text_of(subject) for subject in subjects):
                yield logical_id, "must trust one environment of one repository (repo:OWNER/NAME:environment:ENV)"


def iam_no_strangers(template: Template) -> Faults:
    """No role that anybody, or any AWS account's tasks, can take on.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    """
    for logical_id, role in template.of_type("AWS::IAM::Role"):
        for statement in items((role.get("AssumeRolePolicyDocument") or {}).get("Statement")):
            services, others = _principals(statement.get("Principal"))
            is_for_tasks = "ecs-tasks.amazonaws.com" in services
            if "*" in others:
                yield logical_id, "can be taken on by anybody; name the principal"
            elif is_for_tasks and "aws:SourceAccount" not in text_of(statement.get("Condition")):
                yield logical_id, "can be given to other accounts' tasks; add the condition aws:SourceAccount"


def _principals(principal: Any) -> tuple[list[Any], list[Any]]:
    """(AWS's services, everybody else) of a statement's Principal."""
    if not isinstance(principal, dict):
        return [], items(principal)
    return items(principal.get("Service")), items(principal.get("AWS"))


RULES = (
    iam_exact_actions,
    iam_exact_resources,
    iam_list_tasks_of_a_cluster,
    iam_pass_role,
    iam_oidc_trust,
    iam_no_strangers,
)

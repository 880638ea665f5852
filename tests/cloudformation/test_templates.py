"""The templates hold to AWS's schemas, to each other and to what they promise."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from pipeline.template_checks import check, parse

DIRECTORY = Path(str(files("cloudformation")))
TEMPLATES = sorted(DIRECTORY.glob("*.yaml"))
CFN_LINT = str(Path(sys.executable).with_name("cfn-lint"))
# Rules of cfn-lint that are not held, each with its reason. There are none.
IGNORED: dict[str, str] = {}
# Longest names that the configuration allows; every limit must hold with them.
LONGEST = {
    "Project": "p" * 20,
    "Environment": "e" * 16,
    "Service": "s" * 20,
    "AWS::Partition": "aws-us-gov",
    "AWS::Region": "ap-southeast-1",
    "AWS::AccountId": "1" * 12,
}
# What the pipeline itself puts beside the configuration's values and the stacks' outputs.
LIVE = {"TaskDefinitionArn", "BlueWeight", "GreenWeight", "TestBlueWeight", "TestGreenWeight", "InitialDesiredCount"}
# Parameters under which onnxship.yaml's values are handed in.
CONFIGURED = {
    *("Project", "Environment", "Service", "VpcCidr", "Egress", "Scheme", "ProductionPort", "TestPort"),
    *("CertificateArn", "MonthlyUsd", "SecretArns", "RulePriority", "PathPatterns", "MinTasks", "MaxTasks"),
    *("BakeMinutes", "HookTimeoutMinutes", "HealthCheckGracePeriodSeconds"),
    *(f"IngressCidr{number}" for number in (1, 2, 3, 4)),
    *(f"NotifyEmail{number}" for number in (1, 2, 3)),
}


def cfn_lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    ignored = ["-i", *IGNORED] if IGNORED else []
    command = [CFN_LINT, "-t", *map(str, paths), "-r", "us-east-1", "eu-west-1"]
    strict = ["--non-zero-exit-code", "informational", "-e", "--format", "parseable"]
    return subprocess.run([*command, *strict, *ignored], capture_output=True, text=True, check=False)


def test_cfn_lint_finds_nothing() -> None:
    """cfn-lint, at its strictest, has nothing to say about any template."""
    linted = cfn_lint(*TEMPLATES)

    assert ("", 0) == (linted.stdout, linted.returncode)


def test_cfn_lint_can_find_something(tmp_path: Path) -> None:
    """The linter above really reads: a misspelt property and an unused parameter are found."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "Parameters: {Unused: {Type: String}}\nResources: {T: {Type: AWS::SNS::Topic, Properties: {Nmae: x}}}\n"
    )

    found = cfn_lint(bad)

    assert found.returncode != 0
    assert {"E3002", "W2001"} <= set(re.findall(r"[EWI]\d{4}", found.stdout))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_own_checks_find_nothing(path: Path) -> None:
    """The checks that `deploy` makes accept every template of the project."""
    assert [] == check(parse(path.read_text()))


def test_there_are_nine_templates(templates: dict[str, Any]) -> None:
    """One template per lifetime, and no other file beside them."""
    assert sorted(templates) == [path.stem for path in TEMPLATES]


def test_every_parameter_says_what_it_is(templates: dict[str, Any]) -> None:
    """A parameter has a description, and a bound with words for those who miss it (or AWS's own type)."""
    bare = [
        f"{name}.{key}"
        for name, template in templates.items()
        for key, parameter in template["Parameters"].items()
        if not parameter.get("Description") or not is_bounded(parameter)
    ]

    assert [] == bare


def is_bounded(parameter: dict[str, Any]) -> bool:
    if parameter["Type"].startswith(("AWS::", "List<AWS::")) or "AllowedValues" in parameter:
        return True
    bounds = {"AllowedPattern"} if parameter["Type"] != "Number" else {"MinValue", "MaxValue"}
    return bounds <= set(parameter) and "ConstraintDescription" in parameter


def test_every_output_says_what_it_is(templates: dict[str, Any]) -> None:
    """An output has a description."""
    bare = [f"{n}.{k}" for n, t in templates.items() for k, o in t["Outputs"].items() if not o.get("Description")]

    assert [] == bare


def test_every_resource_has_its_paragraph() -> None:
    """A comment stands above each resource, or above the group of alike ones that it belongs to."""
    for path in TEMPLATES:
        section = path.read_text().split("\nResources:\n")[1].split("\nOutputs:\n")[0]

        assert section.startswith("  # "), path.name
        assert section.count("\n  # ") >= 1, path.name


def test_outputs_feed_parameters_by_name(templates: dict[str, Any]) -> None:
    """What no setting and no live value provides is an output of an earlier stack, under the same name."""
    provided = CONFIGURED | LIVE
    for name, template in templates.items():
        needed = {key for key, parameter in template["Parameters"].items() if "Default" not in parameter}

        assert set() == needed - provided, name
        provided |= set(template["Outputs"])


def test_outputs_and_parameters_agree_on_their_form(templates: dict[str, Any]) -> None:
    """One name has one type and one pattern in every template that takes it."""
    forms: dict[str, set[str]] = {}
    for template in templates.values():
        for key, parameter in template["Parameters"].items():
            form = {k: v for k, v in parameter.items() if k in ("Type", "AllowedPattern", "AllowedValues")}
            forms.setdefault(key, set()).add(json.dumps(form, sort_keys=True))

    assert {} == {key: found for key, found in forms.items() if len(found) > 1}


def test_templates_fit_cloudformations_limits() -> None:
    """A template body is at most 51,200 bytes, with at most 200 parameters and outputs."""
    assert [] == [path.name for path in TEMPLATES if len(path.read_bytes()) > 51_200]


def test_policies_fit_iams_limit(templates: dict[str, Any]) -> None:
    """A managed policy is at most 6,144 characters without white space, with the longest names that are allowed.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    sizes = {
        logical_id: len(re.sub(r"\s", "", json.dumps(resolved(resource["Properties"]["PolicyDocument"]))))
        for logical_id, resource in templates["delivery"]["Resources"].items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    }

    assert len(sizes) == 4
    assert {} == {logical_id: size for logical_id, size in sizes.items() if size > 6144}


def resolved(value: Any) -> Any:
    """Subs and refs of names, filled in with the longest ones."""
    if isinstance(value, dict) and set(value) == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda match: LONGEST[match[1]], value["Fn::Sub"])
    if isinstance(value, dict) and set(value) == {"Ref"}:
        return LONGEST.get(value["Ref"], "arn:" + "x" * 120)
    if isinstance(value, dict):
        return {key: resolved(inner) for key, inner in value.items()}
    return [resolved(inner) for inner in value] if isinstance(value, list) else value


def test_runtime_roles_stay_inside_what_delivery_allows(templates: dict[str, Any]) -> None:
    """Roles are made under the path and behind the boundary that the deploy role is tied to."""
    boundary = templates["delivery"]["Resources"]["RuntimeBoundary"]["Properties"]
    name = boundary["Path"] + boundary["ManagedPolicyName"]["Fn::Sub"]
    allowed = json.dumps(templates["delivery"]["Resources"]["InfrastructurePolicy"])
    roles = [r["Properties"] for r in templates["runtime"]["Resources"].values() if r["Type"] == "AWS::IAM::Role"]

    assert len(roles) == 5
    for role in roles:
        assert role["PermissionsBoundary"]["Fn::Sub"].endswith(f":policy{name}")
        assert f":role{role['Path']['Fn::Sub']}*" in allowed


def test_boundary_covers_what_the_roles_need(templates: dict[str, Any]) -> None:
    """A boundary that lacks an action would take it from the role, and only a failing task would tell."""
    boundary = actions_of([templates["delivery"]["Resources"]["RuntimeBoundary"]["Properties"]["PolicyDocument"]])
    resources = templates["runtime"]["Resources"].values()
    policies = [p for r in resources for p in r["Properties"].get("Policies", [])]
    documents = [p["Fn::If"][1]["PolicyDocument"] if "Fn::If" in p else p["PolicyDocument"] for p in policies]

    assert len(documents) == 6
    assert set() == actions_of(documents) - boundary


def actions_of(documents: list[dict[str, Any]]) -> set[str]:
    found = [statement["Action"] for document in documents for statement in document["Statement"]]
    return {action for actions in found for action in (actions if isinstance(actions, list) else [actions])}


# What CloudFormation calls in the deploy role's name for the properties and stack tags that these templates have, by
# the `handlers` of each type's schema; a call that is refused fails the stack. Left out is what other properties need.
# https://docs.aws.amazon.com/cloudcontrolapi/latest/userguide/resource-type-schema-fields.html
HANDLERS = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "application-autoscaling:DescribeScheduledActions",
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm cloudwatch:TagResource cloudwatch:ListTagsForResource",
    "AWS::CloudWatch::Dashboard": "cloudwatch:PutDashboard cloudwatch:TagResource cloudwatch:ListTagsForResource",
    "AWS::EC2::EIP": "ec2:AllocateAddress ec2:DescribeAddresses ec2:DisassociateAddress ec2:ReleaseAddress",
    "AWS::EC2::SecurityGroup": "ec2:DescribeInstances ec2:UpdateSecurityGroupRuleDescriptionsIngress",
    "AWS::EC2::Subnet": "ec2:DescribeNetworkAcls ec2:ModifySubnetAttribute",
    "AWS::EC2::VPC": "ec2:DescribeNetworkAcls ec2:DescribeVpcEncryptionControls ec2:DescribeVpcAttribute",
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html (dependent actions)
    "AWS::EC2::VPCEndpoint": "ec2:CreateVpcEndpoint route53:AssociateVPCWithHostedZone",
    "AWS::EC2::VPCGatewayAttachment": "ec2:AttachInternetGateway ec2:DescribeVpnGateways",
    "AWS::ECS::Cluster": "ecs:CreateCluster ecs:ListTagsForResource",
    "AWS::ECS::Service": "ecs:DescribeServiceDeployments ecs:ListServiceDeployments ecs:StopServiceDeployment "
    "ecs:ListTagsForResource ecs:UpdateService iam:PassRole",
    "AWS::ElasticLoadBalancingV2::Listener": "elasticloadbalancing:ModifyListenerAttributes",
    "AWS::ElasticLoadBalancingV2::ListenerRule": "elasticloadbalancing:SetRulePriorities",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "elasticloadbalancing:DescribeCapacityReservation",
    "AWS::Logs::LogGroup": "logs:DescribeIndexPolicies logs:DescribeResourcePolicies logs:GetDataProtectionPolicy "
    "logs:DeleteLogGroup logs:TagResource",
    "AWS::SNS::Subscription": "sns:Subscribe sns:GetSubscriptionAttributes sns:Unsubscribe",
    "AWS::SNS::Topic": "sns:GetDataProtectionPolicy sns:TagResource",
}


def test_the_deploy_role_may_do_what_cloudformation_does_in_its_name(templates: dict[str, Any]) -> None:
    """For each type that `ship` creates, the deploy role has the calls that its handler makes."""
    resources = templates["delivery"]["Resources"]
    attached = [policy["Ref"] for policy in resources["DeployRole"]["Properties"]["ManagedPolicyArns"]]
    granted = actions_of([resources[name]["Properties"]["PolicyDocument"] for name in attached])
    shipped = [name for name in templates if name not in ("delivery", "registry")]
    types = {r["Type"] for name in shipped for r in templates[name]["Resources"].values()}

    assert set() == set(HANDLERS) - types
    assert {} == {t: missing for t, calls in HANDLERS.items() if (missing := set(calls.split()) - granted)}


def test_a_stage_by_itself_finds_the_stacks_with_the_release_policy_alone(templates: dict[str, Any]) -> None:
    """CodeBuild's role has that policy only, and every stage reads outputs first."""
    document = templates["delivery"]["Resources"]["ReleasePolicy"]["Properties"]["PolicyDocument"]

    assert "cloudformation:DescribeStacks" in actions_of([document])


def test_who_ships_cannot_delete_what_a_rollback_needs(templates: dict[str, Any]) -> None:
    """Models, records and task definitions stay: with them deleted, conditional writes would protect nothing."""
    resources = templates["delivery"]["Resources"]
    granted = actions_of([resources[name]["Properties"]["PolicyDocument"] for name in resources if "Policy" in name])

    assert set() == granted & {"s3:DeleteObject", "s3:DeleteObjectVersion", "ecs:DeregisterTaskDefinition"}


def test_task_role_reads_only_its_own_models(templates: dict[str, Any]) -> None:
    """The running server can read models/<service>/ and do nothing else."""
    role = templates["runtime"]["Resources"]["TaskRole"]["Properties"]
    (statement,) = role["Policies"][0]["PolicyDocument"]["Statement"]

    assert ["s3:GetObject", "s3:GetObjectVersion"] == statement["Action"]
    assert statement["Resource"]["Fn::Sub"].endswith(":s3:::${ArtifactBucketName}/models/${Service}/*")
    assert "ManagedPolicyArns" not in role


def test_the_gates_secret_is_read_for_the_gates_own_tasks_alone(templates: dict[str, Any]) -> None:
    """Fargate hands it to them; neither they nor the service's tasks can ask for it."""
    resources = templates["runtime"]["Resources"]
    roles = {name: resource for name, resource in resources.items() if resource["Type"] == "AWS::IAM::Role"}

    assert ["GateExecutionRole"] == [name for name, role in roles.items() if '"GateSecret"' in json.dumps(role)]


def test_a_gates_task_writes_where_it_measures_and_nowhere_else(templates: dict[str, Any]) -> None:
    """Models can be read; results go under loadtests/ of the one environment and service."""
    read, write = templates["runtime"]["Resources"]["GateTaskRole"]["Properties"]["Policies"][0]["PolicyDocument"][
        "Statement"
    ]

    assert ["models/${Service}/*", "loadtests/${Environment}/${Service}/*"] == [
        resource["Fn::Sub"].partition("}/")[2] for resource in read["Resource"]
    ]
    assert "s3:PutObject" == write["Action"]
    assert write["Resource"]["Fn::Sub"].endswith("/loadtests/${Environment}/${Service}/*")


def test_the_test_port_has_no_standing_way_in(templates: dict[str, Any]) -> None:
    """No rule of the template opens it, not even to the gate's own tasks."""
    resources = templates["cluster"]["Resources"]
    inward = [*resources["LoadBalancerSecurityGroup"]["Properties"]["SecurityGroupIngress"]]
    inward += [r["Properties"] for r in resources.values() if r["Type"] == "AWS::EC2::SecurityGroupIngress"]

    assert "TestPort" not in json.dumps(inward)
    assert "SecurityGroupIngress" not in resources["GateSecurityGroup"]["Properties"]


def test_metric_math_uses_only_what_the_rehearsal_evaluates(templates: dict[str, Any]) -> None:
    """Expressions call FILL, IF, SUM, MAX and MIN, and nothing else."""
    text = json.dumps(templates)
    called = set(re.findall(r"\b([A-Z][A-Z_]+)\(", " ".join(re.findall(r'"Expression": "([^"]*)"', text))))

    assert called
    assert set() == called - {"FILL", "IF", "SUM", "MAX", "MIN"}


def test_lifecycle_policy_is_json(templates: dict[str, Any]) -> None:
    """ECR gets its lifecycle rules as text: it must be JSON, and expire nothing that has a tag."""
    text = templates["registry"]["Resources"]["Repository"]["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"]

    assert ["untagged"] == [rule["selection"]["tagStatus"] for rule in json.loads(text)["rules"]]


def test_dashboard_is_json(templates: dict[str, Any]) -> None:
    """CloudWatch gets the dashboard as text: it must be JSON once its names are filled in."""
    text, names = templates["observability"]["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    known = set(templates["observability"]["Parameters"]) | set(names) | {"AWS::Region"}
    filled = re.sub(r"\$\{([^}]+)\}", lambda match: "x" if match[1] in known else "", text)

    assert 6 == len(json.loads(filled)["widgets"])
    assert "[[" not in filled


def test_tasks_are_run_and_stopped_in_the_environments_own_cluster(templates: dict[str, Any]) -> None:
    """Whoever ships to environment `e` starts and stops nothing in environment `e-eu`."""
    allowed = [s for s in release_statements(templates) if {"ecs:RunTask", "ecs:StopTask"} & set(s["Action"])]
    patterns = [re.sub(r"^.*:", "", resolved(s["Condition"]["ArnLike"]["ecs:cluster"])) for s in allowed]

    own, sibling = (f"cluster/{'p' * 20}-{'e' * 16}{suffix}-cluster-Cluster-A1B2" for suffix in ("", "-eu"))
    assert [(True, False)] == [(fnmatchcase(own, pattern), fnmatchcase(sibling, pattern)) for pattern in patterns]


def test_tags_of_rules_are_changed_only_by_name(templates: dict[str, Any]) -> None:
    """ForAllValues alone is true for a request without tag keys, which would take away every tag of a rule.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
    """
    conditions = [s["Condition"] for s in release_statements(templates) if "ec2:DeleteTags" in s["Action"]]

    assert [{"aws:TagKeys": "false"}] == [condition.get("Null") for condition in conditions]


def release_statements(templates: dict[str, Any]) -> list[dict[str, Any]]:
    policy = templates["delivery"]["Resources"]["ReleasePolicy"]["Properties"]["PolicyDocument"]
    return list(policy["Statement"])


def test_a_session_is_as_long_as_its_parameter_says(templates: dict[str, Any]) -> None:
    """Two hours unless somebody needs more, within what AWS takes: an hour to twelve.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_update-role-settings.html
    """
    declared = templates["delivery"]["Parameters"]["MaxSessionSeconds"]
    role = templates["delivery"]["Resources"]["DeployRole"]["Properties"]

    assert (7200, 3600, 43200) == (declared["Default"], declared["MinValue"], declared["MaxValue"])
    assert {"Ref": "MaxSessionSeconds"} == role["MaxSessionDuration"]

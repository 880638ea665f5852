"""Each check is shown to find what it is for: one property of a good template is turned, and the check says so."""

import copy
from typing import Any

import pytest

from pipeline.template_checks import RULES, check, parse

GONE = object()
STAR = "*"
EVERYBODY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
TRUST = "Resources.DeployRole.Properties.AssumeRolePolicyDocument.Statement.0.Condition.StringEquals"
GITHUB = "token.actions.githubusercontent.com"
DEPLOYMENT = "Resources.EcsService.Properties.DeploymentConfiguration"
HOOK = f"{DEPLOYMENT}.LifecycleHooks.Fn::If.2.0"
FORWARD = "Properties.Actions.0.ForwardConfig"
BLUE_ATTRIBUTES = "Resources.BlueTargetGroup.Properties.TargetGroupAttributes"
BUCKET = "Resources.ArtifactBucket.Properties"
BUCKET_RULES = "Resources.ArtifactBucketPolicy.Properties.PolicyDocument.Statement"
RELEASE = "Resources.ReleasePolicy.Properties.PolicyDocument.Statement"
TEST_INGRESS = {"IpProtocol": "tcp", "FromPort": {"Ref": "TestPort"}, "ToPort": {"Ref": "TestPort"}}
GROUPS = [{"Type": "forward", "TargetGroupArn": {"Ref": "BlueTargetGroup"}}]
FIXED = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}]
EXPIRES_RELEASES = '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "tagged", "tagPrefixList": ["rel"]}}]}'
EXPIRES_ALL = '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any"}}]}'
TASK = """
Resources:
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      RequiresCompatibilities: [FARGATE]
      NetworkMode: awsvpc
      ContainerDefinitions:
        - Name: model
          Image: x
          User: "10001:10001"
          ReadonlyRootFilesystem: true
          LogConfiguration: {LogDriver: awslogs}
"""
CONTAINER = "Resources.Task.Properties.ContainerDefinitions.0"
GPU = [{"Type": "GPU", "Value": "1"}]
BREAKER = {"Enable": True, "Rollback": True}

# (template, where, what it becomes, the rule that must find it)
MUTATIONS: list[tuple[str, str, Any, str]] = [
    ("delivery", f"{RELEASE}.1.Action", "ecr:*", "iam-exact-actions"),
    ("delivery", f"{RELEASE}.1.NotAction", ["iam:CreateUser"], "iam-exact-actions"),
    ("delivery", f"{RELEASE}.1.Resource", STAR, "iam-exact-resources"),
    ("delivery", f"{RELEASE}.1.NotResource", ["x"], "iam-exact-resources"),
    ("delivery", f"{RELEASE}.5.Condition", GONE, "iam-list-tasks-of-a-cluster"),
    ("delivery", f"{RELEASE}.6.Condition", GONE, "iam-pass-role"),
    ("delivery", f"{RELEASE}.6.Resource", "arn:aws:iam::111122223333:role/*", "iam-pass-role"),
    ("delivery", f"{TRUST}|{GITHUB}:sub", GONE, "iam-oidc-trust"),
    ("delivery", f"{TRUST}|{GITHUB}:sub", {"Fn::Sub": "repo:${GitHubOwner}/*"}, "iam-oidc-trust"),
    ("delivery", f"{TRUST}|{GITHUB}:aud", GONE, "iam-oidc-trust"),
    ("runtime", "Resources.TaskRole.Properties.AssumeRolePolicyDocument", EVERYBODY, "iam-no-strangers"),
    (
        "runtime",
        "Resources.TaskRole.Properties.AssumeRolePolicyDocument.Statement.0.Condition",
        GONE,
        "iam-no-strangers",
    ),
    ("registry", f"{BUCKET}.PublicAccessBlockConfiguration.BlockPublicPolicy", False, "s3-private"),
    ("registry", f"{BUCKET}.VersioningConfiguration.Status", "Suspended", "s3-versioned"),
    ("registry", f"{BUCKET}.BucketEncryption", GONE, "s3-encrypted"),
    ("registry", f"{BUCKET}.OwnershipControls.Rules.0.ObjectOwnership", "ObjectWriter", "s3-no-acls"),
    ("registry", f"{BUCKET_RULES}.0.Condition.Bool|aws:SecureTransport", "true", "s3-only-tls"),
    ("registry", "Resources.ArtifactBucketPolicy", GONE, "s3-only-tls"),
    ("registry", f"{BUCKET_RULES}.1.Condition.Null", GONE, "s3-conditional-writes"),
    ("registry", f"{BUCKET_RULES}.2.Effect", "Allow", "s3-conditional-writes"),
    ("registry", f"{BUCKET}.LifecycleConfiguration.Rules.0.Prefix", "models/", "s3-keeps-current-versions"),
    ("registry", f"{BUCKET}.LifecycleConfiguration.Rules.0.ExpirationInDays", 30, "s3-keeps-current-versions"),
    ("registry", "Resources.Repository.Properties.ImageTagMutability", "MUTABLE", "ecr-immutable"),
    ("registry", "Resources.Repository.Properties.ImageScanningConfiguration.ScanOnPush", False, "ecr-scans"),
    (
        "registry",
        "Resources.Repository.Properties.LifecyclePolicy.LifecyclePolicyText",
        EXPIRES_ALL,
        "ecr-keeps-releases",
    ),
    (
        "registry",
        "Resources.Repository.Properties.LifecyclePolicy.LifecyclePolicyText",
        EXPIRES_RELEASES,
        "ecr-keeps-releases",
    ),
    ("registry", "Resources.Repository.DeletionPolicy", "Delete", "data-outlives-the-stack"),
    ("runtime", "Resources.LogGroup.Properties.RetentionInDays", GONE, "log-retention"),
    ("network", "Outputs.VpcId.Export", {"Name": "vpc"}, "no-exports"),
    ("network", "Resources.S3Endpoint.Properties.VpcId", {"Fn::ImportValue": "vpc"}, "no-exports"),
    ("cluster", "Resources.LoadBalancer.Properties.LoadBalancerAttributes.1", GONE, "elb-drops-invalid-headers"),
    ("cluster", "Resources.LoadBalancer.Properties.LoadBalancerAttributes.2.Value", "monitor", "elb-desync"),
    ("cluster", "Resources.LoadBalancer.Properties.Subnets", ["subnet-1"], "elb-two-zones"),
    ("cluster", "Resources.ProductionListener.Properties.SslPolicy", GONE, "elb-tls-policy"),
    ("cluster", "Resources.TestListener.Properties.SslPolicy", "ELBSecurityPolicy-2016-08", "elb-tls-policy"),
    (
        "cluster",
        "Resources.LoadBalancerSecurityGroup.Properties.SecurityGroupIngress.0",
        TEST_INGRESS,
        "gate-port-is-closed",
    ),
    ("service", f"Resources.ProductionRule.{FORWARD}.TargetGroups.1", GONE, "rules-name-both-groups"),
    ("service", f"Resources.TestRule.{FORWARD}.TargetGroups.0", GONE, "rules-name-both-groups"),
    ("service", "Resources.ProductionRule.Properties.Actions", GROUPS, "rules-name-both-groups"),
    ("service", "Resources.ProductionRule.Properties.Actions", FIXED, "rules-only-forward"),
    ("service", f"Resources.ProductionRule.{FORWARD}.TargetGroups.0.Weight", 100, "rule-weights-are-parameters"),
    (
        "service",
        f"Resources.ProductionRule.{FORWARD}.TargetGroupStickinessConfig",
        {"Enabled": True, "DurationSeconds": 60},
        "rules-are-not-sticky",
    ),
    ("service", "Resources.TestRule.Properties.Conditions.1", GONE, "gate-rule-asks-for-its-header"),
    (
        "service",
        "Resources.TestRule.Properties.Conditions.1.HttpHeaderConfig.Values",
        ["open sesame"],
        "gate-rule-asks-for-its-header",
    ),
    (
        "service",
        "Resources.EcsService.Properties.LoadBalancers.0.AdvancedConfiguration.TestListenerRule",
        GONE,
        "gate-rule-asks-for-its-header",
    ),
    ("service", "Resources.GreenTargetGroup.Properties.HealthCheckPath", "/", "target-groups-are-alike"),
    (
        "service",
        BLUE_ATTRIBUTES,
        [
            {"Key": "load_balancing.algorithm.type", "Value": "weighted_random"},
            {"Key": "slow_start.duration_seconds", "Value": "30"},
        ],
        "target-group-algorithm",
    ),
    (
        "service",
        f"{BLUE_ATTRIBUTES}.0",
        {"Key": "load_balancing.algorithm.anomaly_mitigation", "Value": "on"},
        "target-group-algorithm",
    ),
    ("service", f"{BLUE_ATTRIBUTES}.0", {"Key": "stickiness.enabled", "Value": "true"}, "target-group-algorithm"),
    ("service", f"{DEPLOYMENT}.Alarms", GONE, "ecs-rolls-back-by-alarms"),
    ("service", f"{DEPLOYMENT}.Alarms.Rollback", False, "ecs-rolls-back-by-alarms"),
    ("service", f"{DEPLOYMENT}.Alarms.AlarmNames", [], "ecs-rolls-back-by-alarms"),
    ("service", f"{DEPLOYMENT}.LifecycleHooks", GONE, "ecs-waits-for-the-gate"),
    ("service", f"{HOOK}.TimeoutConfiguration.Action", "CONTINUE", "ecs-waits-for-the-gate"),
    ("service", f"{HOOK}.TimeoutConfiguration", GONE, "ecs-waits-for-the-gate"),
    ("service", f"{HOOK}.LifecycleStages", ["TEST_TRAFFIC_SHIFT"], "ecs-pause-stage"),
    ("service", f"{HOOK}.LifecycleStages.0", "PRODUCTION_TRAFFIC_SHIFT", "ecs-pause-stage"),
    ("service", f"{DEPLOYMENT}.Strategy", "CANARY", "ecs-strategy-settings"),
    ("service", f"{DEPLOYMENT}.LinearConfiguration", {"StepPercent": 10}, "ecs-strategy-settings"),
    ("service", f"{DEPLOYMENT}.BakeTimeInMinutes", GONE, "ecs-strategy-settings"),
    ("service", f"{DEPLOYMENT}.DeploymentCircuitBreaker", BREAKER, "ecs-strategy-settings"),
    ("service", f"{DEPLOYMENT}.DeploymentCircuitBreaker.Rollback", False, "ecs-strategy-settings"),
    ("service", "Conditions.IsRolling.Fn::Equals.1", "LINEAR", "ecs-strategy-settings"),
    ("service", "Conditions.IsRolling.Fn::Equals.1", "LINEAR", "ecs-waits-for-the-gate"),
    ("service", f"{DEPLOYMENT}.Strategy", "ROLLING", "ecs-strategy-settings"),
    (
        "service",
        "Resources.EcsService.Properties.LoadBalancers.0.AdvancedConfiguration",
        GONE,
        "ecs-shifts-between-two-groups",
    ),
    ("service", "Resources.EcsService.Properties.DesiredCount", 2, "ecs-count-belongs-to-scaling"),
    (
        "service",
        "Resources.EcsService.Properties.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp",
        "ENABLED",
        "ecs-private-tasks",
    ),
    ("service", "Resources.EcsService.Properties.PlatformVersion", "1.3.0", "ecs-latest-platform"),
    (
        "service",
        "Resources.EcsService.Properties.CapacityProviderStrategy",
        [{"CapacityProvider": "FARGATE"}],
        "ecs-latest-platform",
    ),
    ("service", "Resources.EcsService.Properties.LaunchType", "MANAGED_INSTANCES", "ecs-latest-platform"),
    ("cluster", "Resources.Cluster.Properties.ClusterSettings", GONE, "ecs-insights"),
    ("task", f"{CONTAINER}.ResourceRequirements", GPU, "fargate-has-no-gpu"),
    ("task", f"{CONTAINER}.Privileged", True, "containers-are-confined"),
    ("task", f"{CONTAINER}.ReadonlyRootFilesystem", GONE, "containers-are-confined"),
    ("task", f"{CONTAINER}.User", "root", "containers-are-confined"),
    ("task", f"{CONTAINER}.User", GONE, "containers-are-confined"),
    ("task", f"{CONTAINER}.LogConfiguration", GONE, "containers-are-confined"),
    ("task", "Resources.Task.Properties.NetworkMode", "host", "tasks-are-isolated"),
    ("task", "Resources.Task.Properties.PidMode", "host", "tasks-are-isolated"),
    (
        "service",
        "Resources.LatencyAlarm.Properties.TreatMissingData",
        GONE,
        "alarms-say-what-missing-data-means",
    ),
    ("service", "Resources.LatencyAlarm.Properties.Metrics.1.ReturnData", True, "alarms-measure-one-thing"),
    ("cost", "Resources.RunningTasksAlarm.Properties.Statistic", GONE, "alarms-measure-one-thing"),
    (
        "service",
        "Resources.LatencyAlarm.Properties.Metrics.2.MetricStat.Metric.Dimensions.1",
        GONE,
        "rollback-alarms-watch-both-groups",
    ),
    (
        "service",
        "Resources.CpuScaling.Properties.TargetTrackingScalingPolicyConfiguration.PredefinedMetricSpecification",
        {"PredefinedMetricType": "ALBRequestCountPerTarget"},
        "scaling-follows-the-traffic",
    ),
    ("cost", "Resources.Budget.Properties.NotificationsWithSubscribers.0.Subscribers", [], "budgets-tell-somebody"),
]


def turned(template: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """A copy with one property set or removed. Keys are split by dots; one with dots of its own comes last, after |."""
    changed = copy.deepcopy(template)
    path, _, last = where.partition("|")
    keys = [*path.split("."), *([last] if last else [])]
    inner: Any = changed
    for key in keys[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    position: Any = int(keys[-1]) if isinstance(inner, list) else keys[-1]
    if value is GONE:
        del inner[position]
    else:
        inner[position] = value
    return changed


@pytest.mark.parametrize(("name", "where", "value", "rule"), MUTATIONS, ids=[f"{m[3]}:{m[1]}" for m in MUTATIONS])
def test_a_turned_property_is_found(templates: dict[str, Any], name: str, where: str, value: Any, rule: str) -> None:
    """The rule accepts the template as it is, and refuses it with this one property turned."""
    template = parse(TASK) if name == "task" else templates[name]

    before, after = check(template), check(turned(template, where, value))

    assert [] == before
    assert [fault for fault in after if fault.endswith(f"({rule})")]


def test_every_rule_has_a_mutation() -> None:
    """No rule is only believed to work."""
    names = {rule.__name__.replace("_", "-") for rule in RULES}

    assert names == {rule for *_, rule in MUTATIONS}


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        ("ROLLING", {"DeploymentCircuitBreaker": BREAKER}),
        ("CANARY", {"CanaryConfiguration": {"CanaryPercent": 10}, "BakeTimeInMinutes": 5}),
        ("LINEAR", {"LinearConfiguration": {"StepPercent": 10}, "BakeTimeInMinutes": 5}),
        ("BLUE_GREEN", {"BakeTimeInMinutes": 5}),
    ],
)
def test_a_strategy_with_its_own_settings_is_accepted(templates: dict[str, Any], strategy: str, own: Any) -> None:
    """A template with one strategy and no parameter for it: only ROLLING does without the hook."""
    deployment = templates["service"]["Resources"]["EcsService"]["Properties"]["DeploymentConfiguration"]
    hooks = {} if strategy == "ROLLING" else {"LifecycleHooks": deployment["LifecycleHooks"]["Fn::If"][2]}
    fixed = {"Strategy": strategy, "Alarms": deployment["Alarms"], **hooks, **own}

    assert [] == check(turned(templates["service"], DEPLOYMENT, fixed))


def test_an_empty_template_is_no_crash() -> None:
    """What is no template at all has no resources to find fault with; CloudFormation refuses it itself."""
    assert [] == check(parse(""))

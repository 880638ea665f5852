"""A small AWS by hand: one ECS service whose deployments move one stage with every look, and what surrounds it.

Has `call` and `pages` as the pipeline's own `Aws` has them. Follows the stages of a blue-green deployment:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html
"""

# ruff: noqa: N803 - arguments are AWS's own names

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.errors import AwsError

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FORWARD = (
    "RECONCILE_SERVICE", "PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP",
)  # fmt: skip
GATE = "POST_TEST_TRAFFIC_SHIFT"
OLD, NEW, OTHER = (f"arn:aws:ecs:eu-west-1:111122223333:task-definition/p-e-s:{n}" for n in (1, 2, 3))
OLD_DIGEST, NEW_DIGEST = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@dataclass
class Moving:
    """A deployment and how it will go."""

    arn: str
    task_definition: str
    source: str
    created_at: datetime
    status: str = "PENDING"
    at: int = -1
    hook: str = ""
    rolled_back_because: str = ""
    alarms: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        return FORWARD[self.at] if self.at >= 0 else ""


@dataclass
class World:
    """What AWS knows. Set how the next deployment goes before it starts."""

    clock: Any
    stays_at: str = "nowhere"
    alarm_at: str = "nowhere"
    has_hook: bool = True
    rollback_status: str = "ROLLBACK_SUCCESSFUL"
    rollback_alarms: tuple[str, ...] = ("p-e-s-5xx",)
    alarm_states: dict[str, str] = field(default_factory=lambda: {"p-e-s-5xx": "OK"})
    digests: dict[str, str] = field(default_factory=lambda: {OLD: OLD_DIGEST, NEW: NEW_DIGEST, OTHER: NEW_DIGEST})
    stopped: list[dict[str, Any]] = field(default_factory=list)
    running: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, tuple[str, str]] = field(default_factory=dict)  # of targets by address: state and description
    log: tuple[str, ...] = ("Traceback: no module named torch",)
    gate_tasks: dict[str, str] = field(default_factory=dict)  # ARN and who started it
    events: list[dict[str, Any]] = field(default_factory=list)
    ingress: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale_out_suspended: bool = False
    deployments: list[Moving] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse: dict[str, AwsError] = field(default_factory=dict)
    bake_minutes: list[int] = field(default_factory=list)
    configuration: dict[str, Any] = field(default_factory=lambda: {"strategy": "BLUE_GREEN"})

    def __post_init__(self) -> None:
        self.deployments.append(Moving("dep/1", OLD, "", NOW - timedelta(days=1), "SUCCESSFUL", len(FORWARD) - 1))

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        self.calls.append((operation, request))
        if operation in self.refuse:
            raise self.refuse[operation]
        return getattr(self, f"_{operation}")(**request)

    def briefly(self) -> "World":
        return self

    def pages(self, service: str, operation: str, key: str, /, **request: Any) -> Any:
        return iter(self.call(service, operation, **request)[key])

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """The requests of one operation, in order."""
        return [request for name, request in self.calls if name == operation]

    def start(self, task_definition: str) -> Moving:
        """A deployment begins, ours or somebody else's."""
        live = [d.task_definition for d in self.deployments if d.status == "SUCCESSFUL"]
        source = live[-1] if live else ""
        moving = Moving(f"dep/{len(self.deployments) + 1}", task_definition, source, self.clock.now())
        self.deployments.append(moving)
        return moving

    def _describe_stacks(self, StackName: str) -> dict[str, Any]:
        outputs = {
            "service": {"ServiceName": "svc"},
            "cluster": {
                "ClusterName": "c",
                "LoadBalancerDnsName": "lb.example",
                "LoadBalancerSecurityGroupId": "sg-1",
                "GateSecurityGroupId": "sg-gate",
            },
            "runtime": {"GateSecretArn": "arn:secret", "LogGroupName": "/logs"},
        }[StackName.rsplit("-", 1)[1]]
        listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {
            "Stacks": [{"StackName": StackName, "StackId": "1", "StackStatus": "CREATE_COMPLETE", "Outputs": listed}]
        }

    def _describe_services(self, **_: Any) -> dict[str, Any]:
        hooks = [{"targetType": "PAUSE", "lifecycleStages": [GATE]}] if self.has_hook else []
        alarms = {"alarmNames": list(self.rollback_alarms), "enable": True, "rollback": True}
        service = {
            "serviceArn": "arn:svc", "serviceName": "svc", "status": "ACTIVE", "taskDefinition": OLD,
            "events": self.events, "loadBalancers": [{"targetGroupArn": "green"}] if self.health else [],
            "deploymentConfiguration": {"alarms": alarms, "lifecycleHooks": hooks} | self.configuration,
        }  # fmt: skip
        return {"services": [service]}

    def _describe_task_definition(self, taskDefinition: str, **_: Any) -> dict[str, Any]:
        tags = [{"key": "onnxship:release", "value": f"r{taskDefinition[-1]}"}]
        return {"taskDefinition": {"taskDefinitionArn": taskDefinition, "status": "ACTIVE"}, "tags": tags}

    def _update_service(self, taskDefinition: str, deploymentConfiguration: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.bake_minutes.append(deploymentConfiguration.get("bakeTimeInMinutes", 0))
        self.configuration = deploymentConfiguration
        self.start(taskDefinition)
        return {}

    def _list_service_deployments(self, status: tuple[str, ...] = (), **_: Any) -> dict[str, Any]:
        found = [d for d in self.deployments if not status or d.status in status]
        return {"serviceDeployments": [{"serviceDeploymentArn": d.arn, "createdAt": d.created_at} for d in found]}

    def _describe_service_deployments(self, serviceDeploymentArns: list[str]) -> dict[str, Any]:
        found = [moving for arn in serviceDeploymentArns if (moving := self._find(arn))]
        for moving in found:
            self._move(moving)
        return {"serviceDeployments": [self._described(moving) for moving in found], "failures": []}

    def _find(self, arn: str) -> Moving | None:
        return next((d for d in self.deployments if d.arn == arn), None)

    def _move(self, d: Moving) -> None:
        if d.status in ("STOP_REQUESTED", "ROLLBACK_REQUESTED"):
            d.status = "ROLLBACK_IN_PROGRESS"
        elif d.status == "ROLLBACK_IN_PROGRESS":
            d.status = self.rollback_status
        elif d.status in ("PENDING", "IN_PROGRESS") and d.stage != self.stays_at and d.hook != "AWAITING_ACTION":
            self._forward(d)

    def _forward(self, d: Moving) -> None:
        d.status, d.at = "IN_PROGRESS", d.at + 1
        if d.at == len(FORWARD):
            d.status, d.at = "SUCCESSFUL", d.at - 1
        elif d.stage == GATE and self.has_hook:
            d.hook = "AWAITING_ACTION"
        elif d.stage == self.alarm_at:
            d.status, d.alarms = "ROLLBACK_REQUESTED", self.rollback_alarms
            d.rolled_back_because = "alarm detected"

    def _described(self, d: Moving) -> dict[str, Any]:
        shifted = d.stage in FORWARD[6:] and not d.status.startswith("ROLLBACK")
        hooks = [{"hookId": "hook-1", "targetType": "PAUSE", "status": d.hook}] if d.hook else []
        rollback = {"reason": d.rolled_back_because, "serviceRevisionArn": f"rev/{d.source}"}
        return {
            "serviceDeploymentArn": d.arn, "serviceArn": "arn:svc", "status": d.status, "lifecycleStage": d.stage,
            "createdAt": d.created_at, "lifecycleHookDetails": hooks, "deploymentConfiguration": self.configuration,
            "targetServiceRevision": {
                "arn": f"rev/{d.task_definition}",
                "requestedProductionTrafficWeight": 100.0 if shifted else 0.0,
            },
            "sourceServiceRevisions": [{"arn": f"rev/{d.source}"}] if d.source else [],
            "rollback": rollback if d.status.startswith("ROLLBACK") else {},
            "alarms": {"triggeredAlarmNames": list(d.alarms)},
        }  # fmt: skip

    def _describe_service_revisions(self, serviceRevisionArns: list[str]) -> dict[str, Any]:
        return {"serviceRevisions": [self._revision(arn) for arn in serviceRevisionArns]}

    def _revision(self, arn: str) -> dict[str, Any]:
        definition = arn.removeprefix("rev/")
        images = [{"containerName": "model", "imageDigest": self.digests[definition]}]
        return {"serviceRevisionArn": arn, "taskDefinition": definition, "containerImages": images}

    def _continue_service_deployment(self, serviceDeploymentArn: str, hookId: str, action: str) -> dict[str, Any]:
        d = self._find(serviceDeploymentArn)
        assert d is not None
        assert (hookId, d.hook) == ("hook-1", "AWAITING_ACTION")
        d.hook = "SUCCEEDED" if action == "CONTINUE" else "FAILED"
        if action == "ROLLBACK":
            d.status, d.rolled_back_because = "ROLLBACK_REQUESTED", "hook answered ROLLBACK"
        return {}

    def _stop_service_deployment(self, serviceDeploymentArn: str, stopType: str) -> dict[str, Any]:
        d = self._find(serviceDeploymentArn)
        assert d is not None
        d.status, d.rolled_back_because = "STOP_REQUESTED", "stopped by user"
        d.hook = "FAILED" if d.hook == "AWAITING_ACTION" else d.hook
        return {}

    def _list_tasks(self, family: str = "", desiredStatus: str = "RUNNING", **_: Any) -> dict[str, Any]:
        if family:
            return {"taskArns": list(self.gate_tasks) if family.endswith("_gate") else []}
        return {
            "taskArns": [task["taskArn"] for task in (self.stopped if desiredStatus == "STOPPED" else self.running)]
        }

    def _describe_tasks(self, tasks: list[str], **_: Any) -> dict[str, Any]:
        running = [{"taskArn": arn, "startedBy": who} for arn, who in self.gate_tasks.items()]
        known = (*self.stopped, *self.running, *running)
        return {"tasks": [task for task in known if task["taskArn"] in tasks]}

    def _stop_task(self, task: str, **_: Any) -> dict[str, Any]:
        del self.gate_tasks[task]
        return {}

    def _describe_alarms(self, AlarmNames: list[str], **_: Any) -> dict[str, Any]:
        known = {name: state for name, state in self.alarm_states.items() if name in AlarmNames}
        return {"MetricAlarms": [{"AlarmName": name, "StateValue": state} for name, state in known.items()]}

    def _get_log_events(self, **_: Any) -> dict[str, Any]:
        return {"events": [{"message": f"{line}\n"} for line in self.log]}

    def _describe_target_health(self, TargetGroupArn: str) -> dict[str, Any]:
        described = [
            {"Target": {"Id": address, "Port": 8080}, "TargetHealth": {"State": state, "Description": words}}
            for address, (state, words) in self.health.items()
        ]
        return {"TargetHealthDescriptions": described}

    def _get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {"SecretString": "sesame"}

    def _describe_security_group_rules(self, **_: Any) -> dict[str, Any]:
        return {"SecurityGroupRules": list(self.ingress.values())}

    def _authorize_security_group_ingress(
        self, IpPermissions: list[Any], TagSpecifications: list[Any], **_: Any
    ) -> dict[str, Any]:
        permission = IpPermissions[0]
        reach = {
            "FromPort": permission["FromPort"],
            "ToPort": permission["ToPort"],
            "CidrIpv4": next((one["CidrIp"] for one in permission.get("IpRanges", ())), None),
            "ReferencedGroupInfo": next(iter(permission.get("UserIdGroupPairs", ())), {}),
        }
        if any(reach.items() <= rule.items() for rule in self.ingress.values()):
            raise AwsError("The specified rule already exists", "", code="InvalidPermission.Duplicate")
        rule = {"SecurityGroupRuleId": f"sgr-{len(self.calls)}", "Tags": TagSpecifications[0]["Tags"], **reach}
        self.ingress[rule["SecurityGroupRuleId"]] = rule
        return {"SecurityGroupRules": [rule]}

    def _revoke_security_group_ingress(self, SecurityGroupRuleIds: list[str], **_: Any) -> dict[str, Any]:
        for rule_id in SecurityGroupRuleIds:
            del self.ingress[rule_id]
        return {}

    def _create_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> dict[str, Any]:
        if Resources[0] not in self.ingress:
            raise AwsError("gone", "", code="InvalidSecurityGroupRuleId.NotFound")
        self.ingress[Resources[0]]["Tags"] = [*self.ingress[Resources[0]]["Tags"], *Tags]
        return {}

    def _delete_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> dict[str, Any]:
        gone = {tag["Key"] for tag in Tags}
        kept = [tag for tag in self.ingress[Resources[0]]["Tags"] if tag["Key"] not in gone]
        self.ingress[Resources[0]]["Tags"] = kept
        return {}

    def _describe_scalable_targets(self, **_: Any) -> dict[str, Any]:
        suspended = {"DynamicScalingOutSuspended": self.scale_out_suspended}
        return {"ScalableTargets": [{"SuspendedState": suspended}]}

    def _register_scalable_target(self, SuspendedState: dict[str, bool], **_: Any) -> dict[str, Any]:
        self.scale_out_suspended = SuspendedState["DynamicScalingOutSuspended"]
        return {}


def failed_task(number: int, at: datetime, task_definition: str = NEW) -> dict[str, Any]:
    """A task that exited with 3."""
    return {
        "taskArn": f"arn:task/{number}", "taskDefinitionArn": task_definition, "createdAt": at,
        "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
        "containers": [{"name": "model", "exitCode": 3}],
    }  # fmt: skip


@dataclass
class Creating(World):
    """A service that CloudFormation is about to create: no stack output, no earlier deployment."""

    stays_in_rollback: bool = False
    exists: bool = False
    weight_of_the_first: float = 0.0
    stack_status: str = "CREATE_COMPLETE"

    def __post_init__(self) -> None:
        """Nothing was deployed before."""

    def create_service(self) -> None:
        self.exists = True
        self.start(NEW)

    def _described(self, d: Moving) -> dict[str, Any]:
        described = super()._described(d)
        target = described["targetServiceRevision"]
        weight = target.get("requestedProductionTrafficWeight", 0.0)
        target["requestedProductionTrafficWeight"] = max(weight, self.weight_of_the_first)
        return described

    def _move(self, d: Moving) -> None:
        if not (self.stays_in_rollback and d.status == "ROLLBACK_IN_PROGRESS"):
            super()._move(d)

    def _describe_stacks(self, StackName: str) -> dict[str, Any]:
        answer = super()._describe_stacks(StackName)
        if StackName.endswith("-service"):
            answer["Stacks"][0] |= {"StackId": StackName, "StackStatus": self.stack_status}
        return answer

    def _delete_stack(self, StackName: str) -> dict[str, Any]:
        self.stack_status = "DELETE_COMPLETE"
        self.deployments.clear()
        return {}

    def _describe_stack_events(self, **_: Any) -> dict[str, Any]:
        return {"StackEvents": []}

    def _describe_stack_resources(self, **_: Any) -> dict[str, Any]:
        resource = {"ResourceType": "AWS::ECS::Service", "LogicalResourceId": "Service"}
        created = {"PhysicalResourceId": "arn:aws:ecs:eu-west-1:111122223333:service/c/svc"} if self.exists else {}
        return {"StackResources": [resource | created]}


@dataclass
class Stepping(World):
    """Production shifts in steps, one a look; an alarm at PRODUCTION_TRAFFIC_SHIFT goes off after the first."""

    steps: tuple[float, ...] = (100.0,)
    taken: int = 0

    def _forward(self, d: Moving) -> None:
        if d.stage != "PRODUCTION_TRAFFIC_SHIFT":
            return self._next(d)
        self.taken += 1
        if self.alarm_at == d.stage:
            d.status, d.alarms, d.rolled_back_because = "ROLLBACK_REQUESTED", self.rollback_alarms, "alarm detected"
        elif self.taken == len(self.steps):
            self._next(d)
        return None

    def _next(self, d: Moving) -> None:
        wanted, self.alarm_at = self.alarm_at, "nowhere"
        super()._forward(d)
        self.alarm_at = wanted

    def _described(self, d: Moving) -> dict[str, Any]:
        described = super()._described(d)
        if d.stage == "PRODUCTION_TRAFFIC_SHIFT" and d.status == "IN_PROGRESS":
            described["targetServiceRevision"]["requestedProductionTrafficWeight"] = self.steps[self.taken]
        return described

"""Services on a real rehearsal: real images from its registry, real processes, real traffic through its balancer."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from botocore.exceptions import ClientError

from rehearsal.ecs.guardian import identity

PATIENCE_S = 60.0
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["RELEASE"].encode()
        wanted = "HEALTH" if self.path == "/health" else "STATUS"
        self.send_response(int(os.environ.get(wanted, "200")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
if os.environ.get("EXIT"):
    sys.exit("cannot load the model") if os.environ["EXIT"] == "1" else sys.exit(int(os.environ["EXIT"]))
print("serving", os.environ["RELEASE"], flush=True)
http.server.ThreadingHTTPServer((os.environ["BIND_HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
PAUSE = {
    "targetType": "PAUSE",
    "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"],
    "timeoutConfiguration": {"timeoutInMinutes": 10, "action": "ROLLBACK"},
}
BREAKER = {"enable": True, "rollback": True}
AFTER = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")


def until(happened, what="it did not happen"):
    """What `happened` gives once it is true; the patience bounds the test and promises nothing."""
    end = time.monotonic() + PATIENCE_S
    while not (given := happened()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)
    return given


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def here(up, oci, supervised):
    """A cluster with a load balancer of two listeners, a log group, and the image of a small server."""
    clients = {
        name: supervised.client_of(up["endpoint"], name)
        for name in ("ecs", "elbv2", "ec2", "ecr", "logs", "cloudwatch")
    }
    ec2, elb = clients["ec2"], clients["elbv2"]
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{n}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for n, zone in enumerate("ab")
    ]
    clients["ecr"].create_repository(repositoryName="servers")
    digest = oci.Pusher(clients["ecr"]).push("servers", oci.image_of({"app/app.py": SERVER}), "v1")
    balancer = elb.create_load_balancer(Name="balancer", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    ports = [free_port(), free_port()]
    nothing = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    listeners = [
        elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=nothing)["Listeners"][
            0
        ]
        for port in ports
    ]
    cluster = clients["ecs"].create_cluster(clusterName="servers")["cluster"]["clusterArn"]
    clients["logs"].create_log_group(logGroupName="/servers")
    network = {"awsvpcConfiguration": {"subnets": subnets}}
    image = f"{up['registry']}/servers:v1"
    return SimpleNamespace(
        **clients,
        vpc=vpc,
        ports=ports,
        listeners=listeners,
        cluster=cluster,
        network=network,
        image=image,
        digest=digest,
        state_dir=Path(up["log"]).parent,
        priorities=itertools.count(1),
    )


def definition(here, family, release="r1", image=None, **environment):
    """Register a task definition of the small server."""
    container = {
        "name": "model",
        "image": image or here.image,
        "memory": 256,
        "portMappings": [{"containerPort": 8080, "name": "http"}],
        "environment": [{"name": name, "value": value} for name, value in {"RELEASE": release, **environment}.items()],
        "readonlyRootFilesystem": True,
        "stopTimeout": 5,
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": "/servers",
                "awslogs-region": "eu-west-1",
                "awslogs-stream-prefix": "model",
            },
        },
    }
    answer = here.ecs.register_task_definition(
        family=family,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return answer["taskDefinition"]["taskDefinitionArn"]


class Service:
    """One service of the module's cluster, with target groups and rules of its own."""

    def __init__(self, here, name, count=1, **config):
        self.here, self.name = here, name
        self.groups = [self._group(f"{name}-{colour}") for colour in ("blue", "green")]
        self.rules = [self._rule(listener["ListenerArn"]) for listener in here.listeners]
        balancer = {
            "targetGroupArn": self.groups[0],
            "containerName": "model",
            "containerPort": 8080,
            "advancedConfiguration": {
                "alternateTargetGroupArn": self.groups[1],
                "productionListenerRule": self.rules[0],
                "testListenerRule": self.rules[1],
                "roleArn": "arn:aws:iam::111122223333:role/infrastructure",
            },
        }
        here.ecs.create_service(
            cluster=here.cluster,
            serviceName=name,
            taskDefinition=definition(here, name),
            desiredCount=count,
            launchType="FARGATE",
            networkConfiguration=here.network,
            loadBalancers=[balancer],
            healthCheckGracePeriodSeconds=5,
            deploymentConfiguration={"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, **config},
        )

    def _group(self, name):
        elb = self.here.elbv2
        arn = elb.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=8080,
            VpcId=self.here.vpc,
            TargetType="ip",
            HealthCheckPath="/health",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        attributes = [{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}]
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=attributes)
        return arn

    def _rule(self, listener):
        groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in zip(self.groups, (100, 0), strict=True)]
        answer = self.here.elbv2.create_rule(
            ListenerArn=listener,
            Priority=next(self.here.priorities),
            Conditions=[{"Field": "path-pattern", "Values": [f"/{self.name}/*"]}],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
        )
        return answer["Rules"][0]["RuleArn"]

    def update(self, **changes):
        return self.here.ecs.update_service(cluster=self.here.cluster, service=self.name, **changes)["service"]

    def describe(self):
        return self.here.ecs.describe_services(cluster=self.here.cluster, services=[self.name])["services"][0]

    def deployment(self):
        """The newest deployment, described."""
        briefs = self.here.ecs.list_service_deployments(cluster=self.here.cluster, service=self.name)
        arn = briefs["serviceDeployments"][0]["serviceDeploymentArn"]
        return self.here.ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"][0]

    def finished(self):
        """The newest deployment, once it has ended."""
        until(lambda: self.deployment()["status"] in AFTER, self.deployment)
        return self.deployment()

    def waiting_hook(self):
        """The newest deployment, once it waits at a hook, and the hook's id."""

        def waiting():
            deployment = self.deployment()
            assert deployment["status"] in ("PENDING", "IN_PROGRESS"), deployment
            hooks = [
                hook["hookId"] for hook in deployment["lifecycleHookDetails"] if hook["status"] == "AWAITING_ACTION"
            ]
            return (deployment, hooks[0]) if hooks else None

        return until(waiting, self.deployment)

    def answer_hook(self, action):
        deployment, hook = self.waiting_hook()
        self.here.ecs.continue_service_deployment(
            serviceDeploymentArn=deployment["serviceDeploymentArn"], hookId=hook, action=action
        )

    def tasks(self, desired="RUNNING"):
        arns = self.here.ecs.list_tasks(cluster=self.here.cluster, serviceName=self.name, desiredStatus=desired)
        if not arns["taskArns"]:
            return []
        return self.here.ecs.describe_tasks(cluster=self.here.cluster, tasks=arns["taskArns"])["tasks"]

    def get(self, listener=0):
        return httpx.get(f"http://127.0.0.1:{self.here.ports[listener]}/{self.name}/x")


@pytest.fixture(scope="module")
def services(here):
    """Services created side by side, each used by one test; all have their first release in production."""
    made = {
        name: Service(here, name)
        for name in ("sick", "killed", "scaled", "refused", "missing", "rules", "faulty", "beside")
    }
    made["shipped"] = Service(here, "shipped", count=2, lifecycleHooks=[PAUSE])
    made["crashing"] = Service(here, "crashing", deploymentCircuitBreaker=BREAKER)
    made["shipped"].answer_hook("CONTINUE")
    for service in made.values():
        assert service.finished()["status"] == "SUCCESSFUL"
    return made


@pytest.fixture
def service(services):
    return services.__getitem__


class Clients:
    """Requests to a service's production listener, one after the other, until the block ends."""

    def __init__(self, service):
        self._service, self.answers, self._over = service, Counter(), threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        with httpx.Client() as http:
            while not self._over.wait(0.005):
                try:
                    answer = http.get(f"http://127.0.0.1:{self._service.here.ports[0]}/{self._service.name}/x")
                    self.answers[(answer.status_code, answer.text)] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1

    def __enter__(self):
        self._thread.start()
        return self.answers

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def test_a_release_passes_its_gate_and_no_request_fails(here, service):
    """Green is seen on the test listener first, then in production, and every request is answered by one or other."""
    shipped = service("shipped")
    with Clients(shipped) as answers:
        shipped.update(taskDefinition=definition(here, "shipped", "r2"))
        deployment, _ = shipped.waiting_hook()
        seen = shipped.get(listener=0).text, shipped.get(listener=1).text
        weights = [
            deployment[key][0] if key == "sourceServiceRevisions" else deployment[key]
            for key in ("sourceServiceRevisions", "targetServiceRevision")
        ]
        shipped.answer_hook("CONTINUE")
        finished = shipped.finished()
        until(lambda: (200, "r2") in answers)
    assert seen == ("r1", "r2")
    assert [(one["requestedProductionTrafficWeight"], one["requestedTestTrafficWeight"]) for one in weights] == [
        (100.0, 0.0),
        (0.0, 100.0),
    ]
    assert finished["status"] == "SUCCESSFUL"
    assert set(answers) == {(200, "r1"), (200, "r2")}


def test_a_running_service_tells_its_revision_image_and_tasks(here, service):
    """The revision proves which digest runs and which target group is live; tasks tell address and container."""
    scaled = service("scaled")
    told = scaled.describe()
    arn = told["currentServiceRevisions"][0]["arn"]
    revision = here.ecs.describe_service_revisions(serviceRevisionArns=[arn])["serviceRevisions"][0]
    assert revision["containerImages"] == [{"containerName": "model", "imageDigest": here.digest, "image": here.image}]
    assert [one["targetGroupArn"] for one in revision["resolvedConfiguration"]["loadBalancers"]] == scaled.groups[:1]
    assert [(one["status"], one["rolloutState"]) for one in told["deployments"]] == [("PRIMARY", "COMPLETED")]
    task = scaled.tasks()[0]
    details = {detail["name"]: detail["value"] for detail in task["attachments"][0]["details"]}
    assert (task["lastStatus"], task["containers"][0]["imageDigest"]) == ("RUNNING", here.digest)
    assert details["privateIPv4Address"].startswith("10.7.")
    targets = here.elbv2.describe_target_health(TargetGroupArn=scaled.groups[0])["TargetHealthDescriptions"]
    assert [one["Target"]["Id"] for one in targets] == [details["privateIPv4Address"]]


def test_the_desired_count_scales_without_a_deployment(service):
    """UpdateService(desiredCount) starts and stops tasks and leaves the deployments alone."""
    scaled = service("scaled")
    before = scaled.deployment()["serviceDeploymentArn"]
    scaled.update(desiredCount=2)
    until(lambda: scaled.describe()["runningCount"] == 2, scaled.describe)
    scaled.update(desiredCount=1)
    stopped = until(lambda: scaled.tasks("STOPPED"))
    assert scaled.deployment()["serviceDeploymentArn"] == before
    assert stopped[0]["stoppedReason"].startswith("Scaling activity initiated by (deployment ecs-svc/")


def test_an_update_that_changes_nothing_starts_no_deployment(service):
    """The task definition that runs already is no release (CloudFormation's rollback after ECS's own)."""
    scaled = service("scaled")
    before = scaled.deployment()["serviceDeploymentArn"]
    scaled.update(taskDefinition=scaled.describe()["taskDefinition"])
    assert scaled.deployment()["serviceDeploymentArn"] == before


def test_an_image_that_crashes_at_start_trips_the_breaker(here, service):
    """Crash after crash is counted, the reason is in the logs, and production never leaves the first release."""
    crashing = service("crashing")
    arn = definition(here, "crashing", "bad", EXIT="1")
    with Clients(crashing) as answers:
        crashing.update(taskDefinition=arn)
        finished = crashing.finished()
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["deploymentCircuitBreaker"]["status"] == "TRIGGERED"
    failed = [task for task in crashing.tasks("STOPPED") if task["taskDefinitionArn"] == arn]
    crash = next(task for task in failed if task["stopCode"] == "EssentialContainerExited")
    assert crash["stoppedReason"] == "Essential container in task exited"
    assert crash["containers"][0]["exitCode"] == 1
    stream = f"model/model/{crash['taskArn'].rsplit('/', 1)[1]}"
    events = here.logs.get_log_events(logGroupName="/servers", logStreamName=stream)["events"]
    assert [event["message"] for event in events] == ["cannot load the model"]
    assert set(answers) == {(200, "r1")}


def test_a_release_that_fails_its_health_checks_is_stopped_with_the_balancers_words(here, service):
    """After the grace period a 503 on the health check stops the task, in ECS's own sentence; ROLLBACK ends it."""
    sick = service("sick")
    sick.update(taskDefinition=definition(here, "sick", "bad", HEALTH="503"))
    stopped = until(lambda: sick.tasks("STOPPED"), sick.describe)[0]
    assert stopped["stoppedReason"] == (
        f"Task failed ELB health checks in (target-group {sick.groups[1]})"
        " (Health checks failed with these codes: [503])"
    )
    arn = sick.deployment()["serviceDeploymentArn"]
    here.ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    assert sick.finished()["status"] == "ROLLBACK_SUCCESSFUL"
    assert sick.describe()["taskDefinition"].endswith(":1")
    assert sick.get().text == "r1"
    with pytest.raises(ClientError, match="terminal states") as refused:
        here.ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    assert refused.value.response["Error"]["Code"] == "ConflictException"


def test_an_alarm_on_what_users_see_takes_production_back(here, service):
    """A release that answers 500 shows in the balancer's metrics; its alarm ends the bake and blue serves again."""
    faulty = service("faulty")
    balancer = here.listeners[0]["LoadBalancerArn"].partition("loadbalancer/")[2]
    dimensions = {"LoadBalancer": balancer, "TargetGroup": faulty.groups[1].rpartition(":")[2]}
    here.cloudwatch.put_metric_alarm(
        AlarmName="faulty-5xx",
        Namespace="AWS/ApplicationELB",
        MetricName="HTTPCode_Target_5XX_Count",
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )
    alarms = {"alarmNames": ["faulty-5xx"], "enable": True, "rollback": True}
    config = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 30, "alarms": alarms}
    with Clients(faulty) as answers:
        faulty.update(taskDefinition=definition(here, "faulty", "bad", STATUS="500"), deploymentConfiguration=config)
        finished = faulty.finished()
        assert faulty.get().text == "r1"
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["alarms"] == {
        "status": "TRIGGERED",
        "alarmNames": ["faulty-5xx"],
        "triggeredAlarmNames": ["faulty-5xx"],
    }
    assert set(answers) == {(200, "r1"), (500, "bad")}


def test_an_image_that_is_not_there_fails_the_task_with_the_pull_error(here, service):
    """A tag that nobody pushed: TaskFailedToStart with CannotPullContainerError; production stays."""
    missing = service("missing")
    missing.update(taskDefinition=definition(here, "missing", image=here.image.replace(":v1", ":gone")))
    failed = until(lambda: missing.tasks("STOPPED"), missing.describe)[0]
    assert failed["stopCode"] == "TaskFailedToStart"
    assert failed["stoppedReason"].startswith("CannotPullContainerError: pull image manifest has been retried")
    assert failed["containers"][0]["reason"] == failed["stoppedReason"]
    assert missing.get().text == "r1"


def test_a_killed_task_is_replaced(here, service):
    """kill -9 of a task's process: exit code 137, and another task takes its place behind the balancer."""
    killed = service("killed")
    task = killed.tasks()[0]
    pid_file = here.state_dir / "tasks" / task["taskArn"].rsplit("/", 1)[1] / "model.pid"
    os.kill(int(pid_file.read_text().splitlines()[1].split()[0]), signal.SIGKILL)
    stopped = until(lambda: killed.tasks("STOPPED"), killed.describe)[0]
    assert (stopped["taskArn"], stopped["containers"][0]["exitCode"]) == (task["taskArn"], 137)
    until(lambda: killed.tasks() and killed.get().status_code == 200)
    assert killed.describe()["events"][0]["message"].startswith("(service killed)")


def test_a_production_rule_without_the_other_target_group_rolls_back_in_awss_words(here, service):
    """Somebody took green out of the rule: no task starts, and the reason is AWS's sentence."""
    rules = service("rules")
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": rules.groups[0], "Weight": 1}]}}
    here.elbv2.modify_rule(RuleArn=rules.rules[0], Actions=[action])
    rules.update(taskDefinition=definition(here, "rules", "r2"))
    finished = rules.finished()
    assert finished["status"] == "ROLLBACK_SUCCESSFUL"
    assert finished["statusReason"] == (
        "Service deployment rolled back because of invalid networking configuration. Both targetGroup and"
        " alternateTargetGroup must be associated with the productionListenerRule or testListenerRule."
    )
    assert rules.get().text == "r1"


def test_a_newer_update_supersedes_a_running_deployment(here, service):
    """The running deployment is STOPPED, the newest goes through, and production ends on its release."""
    refused = service("refused")
    refused.update(taskDefinition=definition(here, "refused", "never"))
    until(lambda: refused.deployment().get("lifecycleStage") == "SCALE_UP")
    first = refused.deployment()["serviceDeploymentArn"]
    refused.update(taskDefinition=definition(here, "refused", "newest"))
    assert refused.finished()["status"] == "SUCCESSFUL"
    superseded = here.ecs.describe_service_deployments(serviceDeploymentArns=[first])["serviceDeployments"][0]
    assert superseded["status"] == "STOPPED"
    assert refused.get().text == "newest"


def test_a_one_off_task_runs_to_its_end(here):
    """RunTask: a real process with the overridden environment; its exit code and reason are kept."""
    arn = definition(here, "once")
    override = {"name": "model", "environment": [{"name": "EXIT", "value": "7"}]}
    task = here.ecs.run_task(
        cluster=here.cluster,
        taskDefinition=arn,
        networkConfiguration=here.network,
        startedBy="test",
        overrides={"containerOverrides": [override]},
    )["tasks"][0]

    def ended():
        told = here.ecs.describe_tasks(cluster=here.cluster, tasks=[task["taskArn"]])["tasks"][0]
        return told if told["lastStatus"] == "STOPPED" else None

    told = until(ended)
    assert (told["containers"][0]["exitCode"], told["startedBy"], told["group"]) == (7, "test", "family:once")


def test_a_repeated_run_task_is_the_same_task(here):
    """With a client token a request whose answer was lost can be sent again."""
    asked = {
        "cluster": here.cluster,
        "taskDefinition": definition(here, "token"),
        "networkConfiguration": here.network,
        "clientToken": "4f2f7a0c",
    }
    first, second = (here.ecs.run_task(**asked)["tasks"][0]["taskArn"] for _ in range(2))
    here.ecs.stop_task(cluster=here.cluster, task=first)

    assert first == second
    assert [first] == here.ecs.list_tasks(cluster=here.cluster, family="token", desiredStatus="STOPPED")["taskArns"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overrides": {"containerOverrides": [{"name": "other"}]}}, "is not a container in the TaskDefinition"),
        (
            {"overrides": {"containerOverrides": [{"name": "model", "command": ["x" * 9000]}]}},
            "Container Overrides length must be at most 8192",
        ),
        ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-12345678"]}}}, "subnet-12345678"),
        ({"networkConfiguration": None}, "Network Configuration must be provided"),
    ],
)
def test_a_task_that_could_not_run_is_refused(here, changes, words):
    """What ECS answers at once is answered at once, with the reason."""
    asked = {"cluster": here.cluster, "taskDefinition": definition(here, "unfit")}
    asked |= {"networkConfiguration": here.network, **changes}
    with pytest.raises(ClientError, match=words):
        here.ecs.run_task(**{key: value for key, value in asked.items() if value})


def test_a_one_off_task_outlives_the_deployments_of_services(here, service):
    """It belongs to no service: a new revision replaces the service's tasks, not this one."""
    beside = service("beside")
    task = here.ecs.run_task(
        cluster=here.cluster, taskDefinition=definition(here, "lasting"), networkConfiguration=here.network
    )["tasks"][0]["taskArn"]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=[task])["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "RUNNING")
    beside.update(taskDefinition=definition(here, "beside", "r2"))
    assert beside.finished()["status"] == "SUCCESSFUL"

    assert describe()["lastStatus"] == "RUNNING"
    here.ecs.stop_task(cluster=here.cluster, task=task)


def test_a_stopped_task_tells_who_stopped_it(here):
    """StopTask's reason is the stopped reason, and SIGTERM is the exit code."""
    task = here.ecs.run_task(
        cluster=here.cluster, taskDefinition=definition(here, "stopped"), networkConfiguration=here.network
    )["tasks"][0]["taskArn"]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=[task])["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "RUNNING")
    here.ecs.stop_task(cluster=here.cluster, task=task, reason="enough")
    until(lambda: describe()["lastStatus"] == "STOPPED")
    told = describe()
    assert (told["stopCode"], told["stoppedReason"]) == ("UserInitiated", "enough")
    assert told["containers"][0]["exitCode"] == 143


def test_a_task_without_its_log_group_does_not_start(here):
    """The log group is missing: TaskFailedToStart with the container agent's sentence."""
    arn = definition(here, "silent")
    container = here.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"][0]
    container["logConfiguration"]["options"]["awslogs-group"] = "/nothing"
    here.ecs.register_task_definition(family="silent", networkMode="awsvpc", containerDefinitions=[container])
    task = here.ecs.run_task(cluster=here.cluster, taskDefinition="silent", networkConfiguration=here.network)
    arns = [one["taskArn"] for one in task["tasks"]]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=arns)["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "STOPPED")
    told = describe()
    assert told["stopCode"] == "TaskFailedToStart"
    assert told["stoppedReason"].startswith("ResourceInitializationError: failed to validate logger args")


def test_a_service_before_its_listener_rules_is_refused(here):
    """A target group that no listener forwards to yet: a template that forgot DependsOn is found out here."""
    vpc = {"Protocol": "HTTP", "Port": 8080, "VpcId": here.vpc, "TargetType": "ip"}
    group = here.elbv2.create_target_group(Name="early", **vpc)["TargetGroups"][0]["TargetGroupArn"]
    with pytest.raises(ClientError, match="does not have an associated load balancer"):
        here.ecs.create_service(
            cluster=here.cluster,
            serviceName="early",
            taskDefinition=definition(here, "early"),
            desiredCount=1,
            networkConfiguration=here.network,
            loadBalancers=[{"targetGroupArn": group, "containerName": "model", "containerPort": 8080}],
        )


def test_a_deleted_service_drains_and_its_name_is_free_again(here):
    """DeleteService stops the tasks; DescribeServices then says INACTIVE and the name can be taken again."""
    for _ in range(2):
        here.ecs.create_service(
            cluster=here.cluster,
            serviceName="brief",
            taskDefinition=definition(here, "brief"),
            desiredCount=1,
            launchType="FARGATE",
            networkConfiguration=here.network,
        )
        describe = lambda: here.ecs.describe_services(cluster=here.cluster, services=["brief"])["services"][0]  # noqa: E731
        until(lambda d=describe: d()["runningCount"] == 1)
        with pytest.raises(ClientError, match="scaled above 0"):
            here.ecs.delete_service(cluster=here.cluster, service="brief")
        here.ecs.delete_service(cluster=here.cluster, service="brief", force=True)
        until(lambda d=describe: d()["status"] == "INACTIVE")
    assert "brief" not in " ".join(here.ecs.list_services(cluster=here.cluster)["serviceArns"])


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("update_service", {"service": "nobody"}, "ServiceNotFoundException"),
        ("list_service_deployments", {"service": "nobody"}, "ServiceNotFoundException"),
        ("update_service", {"cluster": "nowhere", "service": "x"}, "ClusterNotFoundException"),
        ("stop_task", {"task": "nobody"}, "InvalidParameterException"),
        ("create_service", {"serviceName": "x", "taskDefinition": "nothing"}, "ClientException"),
        ("create_service", {"serviceName": "x", "taskDefinition": "plain"}, "InvalidParameterException"),
        (
            "stop_service_deployment",
            {"serviceDeploymentArn": "arn:aws:ecs:eu-west-1:111122223333:service-deployment/c/s/x"},
            "ServiceDeploymentNotFoundException",
        ),
    ],
)
def test_refusals_carry_awss_own_codes(here, operation, request_, code):
    """What AWS refuses is refused here, with the same exception."""
    definition(here, "plain")
    takes_cluster = operation != "stop_service_deployment"
    with pytest.raises(ClientError) as refused:
        getattr(here.ecs, operation)(**({"cluster": here.cluster} if takes_cluster else {}) | request_)
    assert refused.value.response["Error"]["Code"] == code


def test_a_hook_that_is_answered_twice_is_refused(here, service):
    """A hook id works once; AWS's sentence says why not again."""
    deployment = service("shipped").deployment()
    with pytest.raises(ClientError, match="terminal states"):
        here.ecs.continue_service_deployment(
            serviceDeploymentArn=deployment["serviceDeploymentArn"],
            hookId=deployment["lifecycleHookDetails"][0]["hookId"],
        )


def test_autoscaling_finds_the_service(up, supervised, service):
    """Application Auto Scaling, which looks into moto's own ECS, accepts the service as a target."""
    scaling = supervised.client_of(up["endpoint"], "application-autoscaling")
    resource = f"service/servers/{service('scaled').name}"
    dimension = "ecs:service:DesiredCount"
    scaling.register_scalable_target(
        ServiceNamespace="ecs", ResourceId=resource, ScalableDimension=dimension, MinCapacity=1, MaxCapacity=3
    )
    targets = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[resource])["ScalableTargets"]
    assert [target["MaxCapacity"] for target in targets] == [3]


def test_a_killed_rehearsal_leaves_no_task(tmp_path, supervised, oci):
    """kill -9 of the whole rehearsal: within seconds none of its tasks' processes is left."""
    process = supervised.start(tmp_path)
    up = supervised.await_up(process, tmp_path)
    ecs, ecr = (supervised.client_of(up["endpoint"], name) for name in ("ecs", "ecr"))
    ecr.create_repository(repositoryName="servers")
    oci.Pusher(ecr).push("servers", oci.image_of({"app/app.py": "import time; time.sleep(600)"}), "v1")
    ecs.create_cluster(clusterName="default")
    container = {"name": "model", "image": f"{up['registry']}/servers:v1", "memory": 64}
    ecs.register_task_definition(family="sleeper", containerDefinitions=[container])
    ecs.run_task(taskDefinition="sleeper", count=2)
    files = until(lambda: len(found := list(tmp_path.glob("tasks/*/model.pid"))) == 2 and found)
    pids = [int(line.split()[0]) for file in files for line in file.read_text().splitlines()]
    process.kill()
    process.wait()
    until(lambda: not any(identity(pid) for pid in pids), "a task outlived its rehearsal")

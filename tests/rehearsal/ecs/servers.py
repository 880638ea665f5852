"""Small servers on a real rehearsal: real images from its registry, processes, traffic through its balancer."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx

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


def make_place(up, oci, supervised):
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

    def stopped(self):
        """Tasks that have ended, with their exit codes; those that `tasks` calls STOPPED may only be told to."""
        return [task for task in self.tasks("STOPPED") if task["lastStatus"] == "STOPPED"]

    def get(self, listener=0):
        return httpx.get(f"http://127.0.0.1:{self.here.ports[listener]}/{self.name}/x")


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

"""Services on a real rehearsal: real images from its registry, real processes, real traffic through its balancer."""

from __future__ import annotations

import os
import signal

import pytest
from botocore.exceptions import ClientError

from rehearsal.ecs.guardian import identity
from tests.rehearsal.ecs.servers import PAUSE, Clients, Service, definition, until


@pytest.fixture(scope="module")
def services(here):
    """Services created side by side, each used by one test; all have their first release in production."""
    made = {name: Service(here, name) for name in ("killed", "scaled", "refused")}
    made["shipped"] = Service(here, "shipped", count=2, lifecycleHooks=[PAUSE])
    made["shipped"].answer_hook("CONTINUE")
    for service in made.values():
        assert service.finished()["status"] == "SUCCESSFUL"
    return made


@pytest.fixture
def service(services):
    return services.__getitem__


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


def test_a_killed_task_is_replaced(here, service):
    """kill -9 of a task's process: exit code 137, and another task takes its place behind the balancer."""
    killed = service("killed")
    task = killed.tasks()[0]
    pid_file = here.state_dir / "tasks" / task["taskArn"].rsplit("/", 1)[1] / "model.pid"
    os.kill(int(pid_file.read_text().splitlines()[1].split()[0]), signal.SIGKILL)
    stopped = until(killed.stopped, killed.describe)[0]
    assert (stopped["taskArn"], stopped["containers"][0]["exitCode"]) == (task["taskArn"], 137)
    until(lambda: killed.tasks() and killed.get().status_code == 200)
    assert killed.describe()["events"][0]["message"].startswith("(service killed)")


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

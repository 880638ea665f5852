"""Destroy: what it takes away and what it keeps, and that it takes nothing from a run that is at work."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import yaml

from pipeline.aws.ec2 import open_ingress
from pipeline.aws.lock import LockPlace, acquire
from pipeline.aws.session import Aws
from pipeline.errors import Locked
from pipeline.stages.destroy import destroy, destroy_plan


def test_destroy_keeps_images_and_records_unless_asked(config, aws, bucket, registry_stack, clock):
    """The plan names what exists; what is kept is said with its price."""
    template = yaml.safe_dump({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    for name in ("demo-test-network", "demo-test-tiny-service"):
        aws.call("cloudformation", "create_stack", StackName=name, TemplateBody=template)

    assert destroy_plan(config, aws, everything=False) == ("demo-test-tiny-service", "demo-test-network")
    result = destroy(config, aws, clock, everything=False)

    assert [change.stack_name for change in result.stacks] == ["demo-test-tiny-service", "demo-test-network"]
    assert any(bucket in line for line in result.still_costs)
    assert aws.call("s3", "list_buckets")["Buckets"][0]["Name"] == bucket


def test_destroy_everything_leaves_nothing(config, aws, bucket, registry_stack, clock):
    """Every version of every object, the bucket, the repository and its stack are gone."""
    for body in (b"1", b"2"):
        aws.call("s3", "put_object", Bucket=bucket, Key="models/x", Body=body)
    aws.call("s3", "delete_object", Bucket=bucket, Key="models/x")

    result = destroy(config, aws, clock, everything=True)

    assert result.still_costs == ()
    assert aws.call("s3", "list_buckets")["Buckets"] == []
    assert aws.call("ecr", "describe_repositories")["repositories"] == []
    assert destroy_plan(config, aws, everything=True) == ()


@pytest.mark.parametrize("service", [{"ServiceName": "svc"}, {}], ids=["deployed", "first release"])
def test_destroy_closes_what_killed_gates_left_open(config, aws, registry_stack, clock, service):
    """A rule names the gates' security group, which could not be deleted before it; whose gate it was is the same."""
    vpc = aws.call("ec2", "describe_vpcs")["Vpcs"][0]["VpcId"]
    group = aws.call("ec2", "create_security_group", GroupName="lb", Description="-", VpcId=vpc)["GroupId"]
    for name, told in {
        "cluster": {"ClusterName": "gone", "LoadBalancerSecurityGroupId": group},
        "tiny-service": service,
    }.items():
        outputs = {key: {"Value": value} for key, value in told.items()}
        body = yaml.safe_dump({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": outputs})
        aws.call("cloudformation", "create_stack", StackName=f"demo-test-{name}", TemplateBody=body)
    for source, owner in (("192.0.2.7/32", "svc"), ("192.0.2.8/32", "no longer configured")):
        open_ingress(aws, group, 9000, source, owner, clock.now() + timedelta(minutes=40))
    theirs = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "192.0.2.9/32"}]}
    aws.call("ec2", "authorize_security_group_ingress", GroupId=group, IpPermissions=[theirs])

    destroy(config, aws, clock, everything=False)

    filters = [{"Name": "group-id", "Values": [group]}]
    rules = aws.call("ec2", "describe_security_group_rules", Filters=filters)["SecurityGroupRules"]
    assert ["192.0.2.9/32"] == [rule["CidrIpv4"] for rule in rules if not rule["IsEgress"]]


@dataclass
class Ending:
    """A cluster with a gate's task, which takes two looks to stop; moto has the rest."""

    aws: Aws
    looks: list[str] = field(default_factory=lambda: ["RUNNING", "DEPROVISIONING", "STOPPED"])
    did: list[str] = field(default_factory=list)

    def call(self, service, operation, /, *, region=None, **request):
        if operation == "stop_task":
            self.did.append(f"stop {request['task']}")
        elif operation == "describe_tasks":
            self.did.append(self.looks[0])
            return {"tasks": [{"taskArn": request["tasks"][0], "lastStatus": self.looks.pop(0)}]}
        else:
            self.did += [f"delete {request['StackName']}"] if operation == "delete_stack" else []
            return self.aws.call(service, operation, region=region, **request)
        return {}

    def pages(self, service, operation, key, /, **request):
        if operation != "list_tasks":
            return self.aws.pages(service, operation, key, **request)
        assert {"cluster": "c", "startedBy": "onnxship-gate"} == request  # AWS allows no other filter beside it
        return iter(["task/load"])


def test_destroy_ends_the_gates_tasks_before_the_first_stack_goes(config, aws, registry_stack, clock):
    """The cluster could not be deleted while one runs."""
    body = yaml.safe_dump(
        {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"ClusterName": {"Value": "c"}}}
    )
    aws.call("cloudformation", "create_stack", StackName="demo-test-cluster", TemplateBody=body)
    ending = Ending(aws)

    destroy(config, ending, clock, everything=False)

    assert ["stop task/load", "RUNNING", "DEPROVISIONING", "STOPPED"] == ending.did[:4]
    assert any(did.startswith("delete ") for did in ending.did[4:])


def test_destroy_waits_for_nobody_and_takes_nothing_from_a_running_ship(config, aws, bucket, registry_stack, clock):
    """A held lock is exit code 7 before the first stack goes."""
    acquire(aws, LockPlace(bucket, "test", "tiny"), holder="ann")

    with pytest.raises(Locked, match="ann"):
        destroy(config, aws, clock, everything=True)
    assert destroy_plan(config, aws, everything=True) == (registry_stack,)

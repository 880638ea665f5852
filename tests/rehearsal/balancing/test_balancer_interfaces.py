"""The load balancer's network interfaces, as EC2 shows them."""

from __future__ import annotations


def test_every_node_has_a_network_interface_named_after_its_load_balancer(up, supervised):
    """One in each zone, found by its description; its address is where the listeners really are; gone when it is."""
    ec2, elb = (supervised.client_of(up["endpoint"], name) for name in ("ec2", "elbv2"))
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"]
        for n, zone in enumerate("ab")
    ]
    ids = [subnet["SubnetId"] for subnet in subnets]
    arn = elb.create_load_balancer(Name="noded", Subnets=ids)["LoadBalancers"][0]["LoadBalancerArn"]
    named = [{"Name": "description", "Values": [f"ELB {arn.partition(':loadbalancer/')[2]}"]}]

    found = ec2.describe_network_interfaces(Filters=named)["NetworkInterfaces"]
    elb.delete_load_balancer(LoadBalancerArn=arn)

    assert sorted(ids) == sorted(interface["SubnetId"] for interface in found)
    assert {"127.0.0.1"} == {interface["PrivateIpAddress"] for interface in found}
    assert [] == ec2.describe_network_interfaces(Filters=named)["NetworkInterfaces"]

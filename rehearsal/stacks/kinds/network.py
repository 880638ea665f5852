"""AWS::EC2: the network. Moto stores it; no packet ever passes through it."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.casing import as_bool
from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, tag_changes, words


def tagged(work: Work, resource_type: str) -> dict[str, Any]:
    """The TagSpecifications of a create call."""
    tags = work.get("Tags", [])
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": tags}]} if tags else {}


def retag(work: Work, resource_id: str = "") -> None:
    """Bring the tags of an EC2 resource to what is wanted. `resource_id`: where it is not the physical id."""
    put, remove = tag_changes(work)
    resources = [resource_id or work.physical_id]
    if put:
        work.call("ec2", "create_tags", Resources=resources, Tags=put)
    if remove:
        work.call("ec2", "delete_tags", Resources=resources, Tags=[{"Key": key} for key in remove])


def create_vpc(work: Work) -> None:
    request = work.only("CidrBlock", "InstanceTenancy")
    made = work.send("ec2", "create_vpc", request, **tagged(work, "vpc"))
    work.made(made["Vpc"]["VpcId"])
    _set_vpc_attributes(work)


def update_vpc(work: Work) -> None:
    _set_vpc_attributes(work)
    retag(work)


def _set_vpc_attributes(work: Work) -> None:
    for name, default in (("EnableDnsSupport", True), ("EnableDnsHostnames", False)):
        if name in work.properties or name in work.changed:
            value = {"Value": as_bool(work.get(name, default))}
            work.call("ec2", "modify_vpc_attribute", VpcId=work.physical_id, **{name: value})


def vpc_attributes(work: Work) -> dict[str, Any]:
    of_vpc = [{"Name": "vpc-id", "Values": [work.physical_id]}]
    default_group = [*of_vpc, {"Name": "group-name", "Values": ["default"]}]
    vpc = work.call("ec2", "describe_vpcs", VpcIds=[work.physical_id])["Vpcs"][0]
    groups = work.call("ec2", "describe_security_groups", Filters=default_group)["SecurityGroups"]
    acls = work.call("ec2", "describe_network_acls", Filters=of_vpc)["NetworkAcls"]
    return {
        "VpcId": work.physical_id,
        "CidrBlock": vpc["CidrBlock"],
        "CidrBlockAssociations": [entry["AssociationId"] for entry in vpc.get("CidrBlockAssociationSet", [])],
        "DefaultNetworkAcl": next((acl["NetworkAclId"] for acl in acls if acl["IsDefault"]), ""),
        "DefaultSecurityGroup": groups[0]["GroupId"] if groups else "",
        "Ipv6CidrBlocks": [],
    }


def delete_vpc(work: Work) -> None:
    with ignoring_missing("InvalidVpcID.NotFound"):
        work.call("ec2", "delete_vpc", VpcId=work.physical_id)


def create_subnet(work: Work) -> None:
    request = work.only("VpcId", "CidrBlock", "AvailabilityZone")
    made = work.send("ec2", "create_subnet", request, **tagged(work, "subnet"))
    work.made(made["Subnet"]["SubnetId"])
    _set_public_ip(work)


def update_subnet(work: Work) -> None:
    _set_public_ip(work)
    retag(work)


def _set_public_ip(work: Work) -> None:
    if "MapPublicIpOnLaunch" in work.changed:
        value = {"Value": as_bool(work.get("MapPublicIpOnLaunch", False))}
        work.call("ec2", "modify_subnet_attribute", SubnetId=work.physical_id, MapPublicIpOnLaunch=value)


def subnet_attributes(work: Work) -> dict[str, Any]:
    subnet = work.call("ec2", "describe_subnets", SubnetIds=[work.physical_id])["Subnets"][0]
    names = ("SubnetId", "VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId")
    return {name: subnet[name] for name in names if name in subnet}


def delete_subnet(work: Work) -> None:
    with ignoring_missing("InvalidSubnetID.NotFound"):
        work.call("ec2", "delete_subnet", SubnetId=work.physical_id)


def create_internet_gateway(work: Work) -> None:
    made = work.call("ec2", "create_internet_gateway", **tagged(work, "internet-gateway"))
    work.made(made["InternetGateway"]["InternetGatewayId"])


def delete_internet_gateway(work: Work) -> None:
    with ignoring_missing("InvalidInternetGatewayID.NotFound"):
        work.call("ec2", "delete_internet_gateway", InternetGatewayId=work.physical_id)


def attach_gateway(work: Work) -> None:
    work.send("ec2", "attach_internet_gateway", work.properties)
    work.made(f"IGW|{work.get('VpcId')}")


def reattach_gateway(work: Work) -> None:
    work.send("ec2", "detach_internet_gateway", work.previous)
    work.send("ec2", "attach_internet_gateway", work.properties)


def detach_gateway(work: Work) -> None:
    with ignoring_missing("Gateway.NotAttached", "InvalidInternetGatewayID.NotFound"):
        work.send("ec2", "detach_internet_gateway", work.properties)


def create_route_table(work: Work) -> None:
    made = work.send("ec2", "create_route_table", work.only("VpcId"), **tagged(work, "route-table"))
    work.made(made["RouteTable"]["RouteTableId"])


def delete_route_table(work: Work) -> None:
    with ignoring_missing("InvalidRouteTableID.NotFound"):
        work.call("ec2", "delete_route_table", RouteTableId=work.physical_id)


def create_route(work: Work) -> None:
    work.send("ec2", "create_route", work.properties)
    work.made(f"{work.get('RouteTableId')}|{work.get('DestinationCidrBlock')}")


def replace_route(work: Work) -> None:
    work.send("ec2", "replace_route", work.properties)


def delete_route(work: Work) -> None:
    with ignoring_missing("InvalidRoute.NotFound", "InvalidRouteTableID.NotFound"):
        work.send("ec2", "delete_route", work.only("RouteTableId", "DestinationCidrBlock"))


def associate_route_table(work: Work) -> None:
    work.made(work.send("ec2", "associate_route_table", work.properties)["AssociationId"])


def disassociate_route_table(work: Work) -> None:
    with ignoring_missing("InvalidAssociationID.NotFound"):
        work.call("ec2", "disassociate_route_table", AssociationId=work.physical_id)


def allocate_address(work: Work) -> None:
    work.made(work.send("ec2", "allocate_address", work.only("Domain"), **tagged(work, "elastic-ip"))["PublicIp"])


def address_attributes(work: Work) -> dict[str, Any]:
    address = work.call("ec2", "describe_addresses", PublicIps=[work.physical_id])["Addresses"][0]
    return {"AllocationId": address["AllocationId"], "PublicIp": work.physical_id}


def retag_address(work: Work) -> None:
    if "Domain" in work.changed:
        raise ResourceFailed("changing an address's Domain is not rehearsed", "InvalidRequest")
    retag(work, address_attributes(work)["AllocationId"])


def release_address(work: Work) -> None:
    with ignoring_missing("InvalidAddress.NotFound", "InvalidAllocationID.NotFound"):
        work.call("ec2", "release_address", AllocationId=address_attributes(work)["AllocationId"])


def create_nat_gateway(work: Work) -> None:
    made = work.send("ec2", "create_nat_gateway", work.without("Tags"), **tagged(work, "natgateway"))
    work.made(made["NatGateway"]["NatGatewayId"])
    _wait_for_nat_gateway(work, "available")


def delete_nat_gateway(work: Work) -> None:
    with ignoring_missing("NatGatewayNotFound"):
        work.call("ec2", "delete_nat_gateway", NatGatewayId=work.physical_id)
        _wait_for_nat_gateway(work, "deleted")


def _wait_for_nat_gateway(work: Work, state: str) -> None:
    def current() -> str:
        found = work.call("ec2", "describe_nat_gateways", NatGatewayIds=[work.physical_id])["NatGateways"]
        return str(found[0]["State"]) if found else "deleted"

    while current() != state:
        work.pause(0.2)


def create_endpoint(work: Work) -> None:
    made = work.send("ec2", "create_vpc_endpoint", work.without("Tags"), **tagged(work, "vpc-endpoint"))
    work.made(made["VpcEndpoint"]["VpcEndpointId"])


def update_endpoint(work: Work) -> None:
    request: dict[str, Any] = {}
    for name in ("RouteTableIds", "SubnetIds", "SecurityGroupIds"):
        before, now = set(work.previous.get(name, [])), set(work.get(name, []))
        request |= {f"Add{name}": sorted(now - before)} if now - before else {}
        request |= {f"Remove{name}": sorted(before - now)} if before - now else {}
    if "PrivateDnsEnabled" in work.changed:
        request["PrivateDnsEnabled"] = as_bool(work.get("PrivateDnsEnabled", False))
    if "PolicyDocument" in work.changed:
        policy = work.get("PolicyDocument")
        request |= {"PolicyDocument": json.dumps(policy)} if policy else {"ResetPolicy": True}
    if request:
        work.call("ec2", "modify_vpc_endpoint", VpcEndpointId=work.physical_id, **request)
    retag(work)


def endpoint_attributes(work: Work) -> dict[str, Any]:
    endpoint = work.call("ec2", "describe_vpc_endpoints", VpcEndpointIds=[work.physical_id])["VpcEndpoints"][0]
    dns = [f"{entry.get('HostedZoneId', '')}:{entry['DnsName']}" for entry in endpoint.get("DnsEntries", [])]
    return {
        "Id": work.physical_id,
        "CreationTimestamp": str(endpoint.get("CreationTimestamp", "")),
        "DnsEntries": dns,
        "NetworkInterfaceIds": endpoint.get("NetworkInterfaceIds", []),
    }


def delete_endpoint(work: Work) -> None:
    with ignoring_missing("InvalidVpcEndpointId.NotFound"):
        work.call("ec2", "delete_vpc_endpoints", VpcEndpointIds=[work.physical_id])


KINDS = (
    Kind(
        "AWS::EC2::VPC",
        words("CidrBlock EnableDnsHostnames EnableDnsSupport InstanceTenancy Tags"),
        create_vpc, delete_vpc, update_vpc, words("CidrBlock InstanceTenancy"), vpc_attributes, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::Subnet",
        words("AvailabilityZone CidrBlock MapPublicIpOnLaunch Tags VpcId"),
        create_subnet, delete_subnet, update_subnet, words("AvailabilityZone CidrBlock VpcId"), subnet_attributes,
        recorded_only=always,
    ),
    Kind(
        "AWS::EC2::InternetGateway", words("Tags"), create_internet_gateway, delete_internet_gateway, retag,
        attributes=lambda work: {"InternetGatewayId": work.physical_id}, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::VPCGatewayAttachment", words("InternetGatewayId VpcId"), attach_gateway, detach_gateway,
        reattach_gateway, words("VpcId"), lambda work: {"AttachmentType": "IGW"}, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::RouteTable", words("Tags VpcId"), create_route_table, delete_route_table, retag, words("VpcId"),
        lambda work: {"RouteTableId": work.physical_id}, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::Route", words("DestinationCidrBlock GatewayId NatGatewayId RouteTableId"), create_route,
        delete_route, replace_route, words("DestinationCidrBlock RouteTableId"),
        lambda work: {"CidrBlock": work.get("DestinationCidrBlock")}, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::SubnetRouteTableAssociation", words("RouteTableId SubnetId"), associate_route_table,
        disassociate_route_table, None, words("RouteTableId SubnetId"), lambda work: {"Id": work.physical_id},
        recorded_only=always,
    ),
    Kind(
        "AWS::EC2::EIP", words("Domain Tags"), allocate_address, release_address, retag_address,
        attributes=address_attributes, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::NatGateway", words("AllocationId ConnectivityType SubnetId Tags"), create_nat_gateway,
        delete_nat_gateway, retag, words("AllocationId ConnectivityType SubnetId"),
        lambda work: {"NatGatewayId": work.physical_id}, recorded_only=always,
    ),
    Kind(
        "AWS::EC2::VPCEndpoint",
        words(
            "PolicyDocument PrivateDnsEnabled RouteTableIds SecurityGroupIds ServiceName SubnetIds Tags "
            "VpcEndpointType VpcId"
        ),
        create_endpoint, delete_endpoint, update_endpoint, words("ServiceName VpcEndpointType VpcId"),
        endpoint_attributes, recorded_only=always,
    ),
)  # fmt: skip

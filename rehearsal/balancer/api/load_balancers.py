"""Load balancers of the ELBv2 API."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from rehearsal.balancer import attributes
from rehearsal.balancer.api.listeners import Listeners
from rehearsal.balancer.estate import Estate, LoadBalancer, page
from rehearsal.context import LOOPBACK, Context
from rehearsal.refusals import Refused

Request = dict[str, Any]


class LoadBalancers:
    """CreateLoadBalancer and its like."""

    def __init__(self, context: Context, estate: Estate, listeners: Listeners) -> None:
        self._context = context
        self._estate = estate
        self._listeners = listeners

    async def create_load_balancer(self, asked: Request) -> Request:
        """A load balancer that is active at once; AWS needs minutes."""
        if asked.get("Type", "application") != "application":
            raise Refused("ValidationError", f"Load balancers of type '{asked['Type']}' are not rehearsed")
        settings = {key: value for key, value in asked.items() if key != "Tags"}
        subnets = [mapping["SubnetId"] for mapping in asked.get("SubnetMappings", [])] or asked.get("Subnets", [])
        zones, vpc_id = await self._zones(subnets)
        for existing in self._estate.load_balancers.values():
            if existing.description["LoadBalancerName"] == asked["Name"]:
                # Equal requests are answered with the same load balancer:
                # https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html
                if existing.asked == settings:
                    return {"LoadBalancers": [existing.description]}
                raise Refused("DuplicateLoadBalancerName", f"A load balancer named '{asked['Name']}' exists already")
        made = LoadBalancer(
            self._description(asked, zones, vpc_id), attributes.defaults(attributes.LOAD_BALANCER), settings
        )
        arn = made.description["LoadBalancerArn"]
        self._estate.load_balancers[arn] = made
        self._estate.tags[arn] = {tag["Key"]: tag.get("Value", "") for tag in asked.get("Tags", [])}
        await self._stand(made)
        return {"LoadBalancers": [made.description]}

    async def _stand(self, made: LoadBalancer) -> None:
        """A node in each zone, with a network interface of its own; here every one of them is this machine's loopback.

        https://repost.aws/knowledge-center/elb-find-load-balancer-IP (their description names the load balancer)
        """
        for zone in made.description["AvailabilityZones"]:
            interface = await self._context.call(
                "ec2",
                "create_network_interface",
                SubnetId=zone["SubnetId"],
                Description=f"ELB {made.full_name}",
                Groups=made.description["SecurityGroups"],
                PrivateIpAddress=LOOPBACK,
            )
            made.interfaces.append(interface["NetworkInterface"]["NetworkInterfaceId"])

    async def _fall(self, balancer: LoadBalancer) -> None:
        for interface in balancer.interfaces:
            await self._context.call("ec2", "delete_network_interface", NetworkInterfaceId=interface)
        balancer.interfaces.clear()

    def _description(self, asked: Request, zones: list[Request], vpc_id: str) -> Request:
        settings = self._context.settings
        prefix = f"arn:aws:elasticloadbalancing:{settings.region}:{settings.account}"
        return {
            "LoadBalancerArn": f"{prefix}:loadbalancer/app/{asked['Name']}/{secrets.token_hex(8)}",
            "DNSName": LOOPBACK,
            "CanonicalHostedZoneId": "Z0000000REHEARSAL",
            "CreatedTime": datetime.now(UTC),
            "LoadBalancerName": asked["Name"],
            "Scheme": asked.get("Scheme", "internet-facing"),
            "VpcId": vpc_id,
            "State": {"Code": "active"},
            "Type": "application",
            "AvailabilityZones": zones,
            "SecurityGroups": asked.get("SecurityGroups", []),
            "IpAddressType": asked.get("IpAddressType", "ipv4"),
        }

    async def _zones(self, subnet_ids: list[str]) -> tuple[list[Request], str]:
        """The zones of the subnets, at least two, as a real load balancer wants them."""
        if not subnet_ids:
            raise Refused(
                "ValidationError", "At least two subnets in two different Availability Zones must be specified"
            )
        found = await self._context.call(
            "ec2", "describe_subnets", Filters=[{"Name": "subnet-id", "Values": subnet_ids}]
        )
        if len(found["Subnets"]) < len(subnet_ids):
            known = {subnet["SubnetId"] for subnet in found["Subnets"]}
            raise Refused(
                "SubnetNotFound", f"The subnet ID '{next(i for i in subnet_ids if i not in known)}' does not exist"
            )
        zones = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found["Subnets"]}
        if len(zones) < 2:
            raise Refused(
                "ValidationError", "At least two subnets in two different Availability Zones must be specified"
            )
        shown = [{"ZoneName": zone, "SubnetId": subnet_id} for zone, subnet_id in sorted(zones.items())]
        return shown, found["Subnets"][0]["VpcId"]

    async def describe_load_balancers(self, asked: Request) -> Request:
        """The load balancers asked for by ARN or name, else all."""
        arns, names = asked.get("LoadBalancerArns"), asked.get("Names")
        found = (
            [self._estate.load_balancer(arn) for arn in arns] if arns else list(self._estate.load_balancers.values())
        )
        if names:
            found = [balancer for balancer in found if balancer.description["LoadBalancerName"] in names]
            if len(found) < len(names):
                raise Refused("LoadBalancerNotFound", f"Load balancers '{names}' not found")
        shown = [balancer.description for balancer in found]
        return page(shown, "LoadBalancers", lambda balancer: balancer["LoadBalancerArn"], asked)

    async def delete_load_balancer(self, asked: Request) -> Request:
        """Deletes it with its listeners; deleting what is not there succeeds."""
        arn = asked["LoadBalancerArn"]
        balancer = self._estate.load_balancers.get(arn)
        if balancer is None:
            return {}
        if balancer.attributes["deletion_protection.enabled"] == "true":
            raise Refused("OperationNotPermitted", f"Load balancer '{arn}' cannot be deleted: it is protected")
        for listener in [one for one in self._estate.listeners.values() if one.load_balancer is balancer]:
            await self._listeners.delete_listener({"ListenerArn": listener.arn})
        await self._fall(balancer)
        del self._estate.load_balancers[arn]
        self._estate.tags.pop(arn, None)
        return {}

    async def describe_load_balancer_attributes(self, asked: Request) -> Request:
        """Every attribute."""
        return attributes.shown(self._estate.load_balancer(asked["LoadBalancerArn"]).attributes)

    async def modify_load_balancer_attributes(self, asked: Request) -> Request:
        """All the changes, or none and an error."""
        balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
        merged = attributes.changed(
            "Load balancer", attributes.LOAD_BALANCER, balancer.attributes, asked.get("Attributes", [])
        )
        balancer.attributes.update(merged)
        return attributes.shown(merged)

    async def set_security_groups(self, asked: Request) -> Request:
        """The security groups from now on; they are recorded, not enforced."""
        balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
        balancer.description["SecurityGroups"] = asked["SecurityGroups"]
        return {"SecurityGroupIds": asked["SecurityGroups"]}

    async def set_subnets(self, asked: Request) -> Request:
        """The subnets from now on."""
        balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
        subnets = [mapping["SubnetId"] for mapping in asked.get("SubnetMappings", [])] or asked.get("Subnets", [])
        balancer.description["AvailabilityZones"], _ = await self._zones(subnets)
        await self._fall(balancer)
        await self._stand(balancer)
        return {"AvailabilityZones": balancer.description["AvailabilityZones"]}

    async def set_ip_address_type(self, asked: Request) -> Request:
        """The address type from now on; recorded only."""
        balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
        balancer.description["IpAddressType"] = asked["IpAddressType"]
        return {"IpAddressType": asked["IpAddressType"]}

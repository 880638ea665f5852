"""Made-up network interfaces: each task gets an address of its service's subnets."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from rehearsal.context import Context

FIRST_HOST = 4  # AWS keeps the first four: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html


@dataclass(frozen=True)
class Interface:
    """Where a task's network interface stands."""

    ip: str
    subnet: str
    zone: str


@dataclass
class Network:
    """Hands out addresses, subnet by subnet in turn; an address is not given twice."""

    context: Context
    _given: dict[str, int] = field(default_factory=dict)

    async def interface(self, configuration: dict[str, Any] | None) -> Interface | None:
        """The next address in the least used of the configuration's subnets."""
        subnets = ((configuration or {}).get("awsvpcConfiguration") or {}).get("subnets") or []
        if not subnets:
            return None
        known = (await self.context.call("ec2", "describe_subnets", SubnetIds=subnets))["Subnets"]
        subnet = min(known, key=lambda one: (self._given.get(one["SubnetId"], 0), subnets.index(one["SubnetId"])))
        nth = self._given.get(subnet["SubnetId"], 0)
        self._given[subnet["SubnetId"]] = nth + 1
        block = ipaddress.ip_network(subnet["CidrBlock"])
        ip = block[FIRST_HOST + nth % (block.num_addresses - FIRST_HOST - 1)]
        return Interface(str(ip), subnet["SubnetId"], subnet["AvailabilityZone"])

"""Listeners of the ELBv2 API: each opens a real port."""

from __future__ import annotations

import secrets
from typing import Any

from rehearsal.balancer import attributes, rule_checks
from rehearsal.balancer.estate import Estate, Listener, page
from rehearsal.balancer.ports import Ports
from rehearsal.balancer.traffic import Traffic
from rehearsal.refusals import Refused

Request = dict[str, Any]


class Listeners:
    """CreateListener and its like."""

    def __init__(self, estate: Estate, traffic: Traffic, ports: Ports) -> None:
        self._estate = estate
        self._traffic = traffic
        self._ports = ports

    async def create_listener(self, asked: Request) -> Request:
        """A listener that answers on 127.0.0.1:<Port> when this returns."""
        balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
        settings = {key: value for key, value in asked.items() if key != "Tags"}
        port = _port(asked)
        for existing in self._estate.listeners.values():
            if existing.load_balancer is balancer and existing.port == port:
                if existing.asked == settings:
                    return {"Listeners": [existing.description]}
                raise Refused("DuplicateListener", f"A listener already exists on port {port} for this load balancer")
        actions = rule_checks.actions(asked["DefaultActions"])
        self._traffic.check(balancer, actions)
        arn = f"{asked['LoadBalancerArn'].replace(':loadbalancer/', ':listener/')}/{secrets.token_hex(8)}"
        description = {
            "ListenerArn": arn,
            "LoadBalancerArn": asked["LoadBalancerArn"],
            "Port": port,
            "Protocol": "HTTP",
            "DefaultActions": actions,
        }
        listener = Listener(description, attributes.defaults(attributes.LISTENER), settings, balancer)
        self._set_default(listener, actions)
        self._traffic.apply(listener)
        await self._ports.open(listener)
        self._estate.listeners[arn] = listener
        self._estate.tags[arn] = {tag["Key"]: tag.get("Value", "") for tag in asked.get("Tags", [])}
        self._traffic.publish(listener)
        return {"Listeners": [description]}

    def _set_default(self, listener: Listener, actions: list[Request]) -> None:
        listener.description["DefaultActions"] = actions
        arn = next((arn for arn, rule in listener.rules.items() if rule["IsDefault"]), None)
        if arn is None:
            arn = f"{listener.arn.replace(':listener/', ':listener-rule/')}/{secrets.token_hex(8)}"
        listener.rules[arn] = {
            "RuleArn": arn, "Priority": "default", "Conditions": [], "Actions": actions, "IsDefault": True
        }  # fmt: skip

    async def describe_listeners(self, asked: Request) -> Request:
        """The listeners asked for by ARN, or those of a load balancer."""
        if asked.get("ListenerArns"):
            found = [self._estate.listener(arn) for arn in asked["ListenerArns"]]
        elif asked.get("LoadBalancerArn"):
            balancer = self._estate.load_balancer(asked["LoadBalancerArn"])
            found = [listener for listener in self._estate.listeners.values() if listener.load_balancer is balancer]
        else:
            raise Refused("ValidationError", "You must specify either listener ARNs or a load balancer ARN")
        return page([one.description for one in found], "Listeners", lambda one: one["ListenerArn"], asked)

    async def modify_listener(self, asked: Request) -> Request:
        """A new port, or new default actions, or both or neither."""
        listener = self._estate.listener(asked["ListenerArn"])
        port = _port({"Port": listener.port, "Protocol": "HTTP"} | asked)
        actions = None
        if asked.get("DefaultActions"):
            actions = rule_checks.actions(asked["DefaultActions"])
            self._traffic.check(listener.load_balancer, actions)
        if port != listener.port:
            await self._ports.move(listener, port)
        if actions is not None:
            self._set_default(listener, actions)
            self._traffic.publish(listener)
        return {"Listeners": [listener.description]}

    async def delete_listener(self, asked: Request) -> Request:
        """Closes its port; deleting what is not there succeeds."""
        listener = self._estate.listeners.pop(asked["ListenerArn"], None)
        if listener is None:
            return {}
        for arn in [*listener.rules, listener.arn]:
            self._estate.tags.pop(arn, None)
        self._traffic.forget(listener, list(listener.rules))
        await self._ports.close(listener)
        return {}

    async def describe_listener_attributes(self, asked: Request) -> Request:
        """Every attribute; they are recorded only."""
        return attributes.shown(self._estate.listener(asked["ListenerArn"]).attributes)

    async def modify_listener_attributes(self, asked: Request) -> Request:
        """All the changes, or none and an error."""
        listener = self._estate.listener(asked["ListenerArn"])
        merged = attributes.changed("Listener", attributes.LISTENER, listener.attributes, asked["Attributes"])
        listener.attributes.update(merged)
        return attributes.shown(merged)


def _port(asked: Request) -> int:
    if asked.get("Protocol") != "HTTP":
        raise Refused(
            "UnsupportedProtocol", f"Listeners with protocol '{asked.get('Protocol')}' are not rehearsed: only HTTP"
        )
    if not asked.get("Port") or not 1 <= int(asked["Port"]) <= 65535:
        raise Refused("ValidationError", "A listener port between '1' and '65535' must be specified")
    return int(asked["Port"])

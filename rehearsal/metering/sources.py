"""Where AWS's own metrics come from: the load balancer's requests and targets, and the tasks of ECS."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from rehearsal.balancer.accesses import Access
from rehearsal.context import Context
from rehearsal.metering.store import Key, Sample

ELB = "AWS/ApplicationELB"
INSIGHTS = "ECS/ContainerInsights"


class Measured(NamedTuple):
    """One sample of one metric."""

    key: Key
    at: float
    sample: Sample
    unit: str


class HostCount(NamedTuple):
    """The targets of a target group under a load balancer, both by their full names."""

    load_balancer: str
    target_group: str
    registered: int
    healthy: int
    unhealthy: int


def requests(accesses: list[Access], hosts: list[HostCount], tick_s: float) -> Iterator[Measured]:
    """The metrics of some requests, with the dimensions that AWS gives each, and no others.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
    """
    counts: dict[tuple[float, Key], int] = defaultdict(int)
    times: dict[tuple[float, Key], array[float]] = defaultdict(lambda: array("d"))
    for access in accesses:
        at = (math.floor(access.time / tick_s) + 0.5) * tick_s
        for name in _counted(access):
            for key in _keys(name, access):
                counts[at, key] += 1
        if access.target_duration_s is not None:
            for key in _keys("TargetResponseTime", access):
                times[at, key].append(access.target_duration_s)
    for (at, key), count in sorted(counts.items(), key=lambda item: item[0][0]):
        yield Measured(key, at, Sample(count, count, 1.0, 1.0), "Count")
        yield from _per_target(key, at, count, hosts)
    for (at, key), raw in sorted(times.items(), key=lambda item: item[0][0]):
        yield Measured(key, at, Sample.of(raw), "Seconds")


def _counted(access: Access) -> Iterator[str]:
    """The counters that a request moves; it counts as a request once a target was chosen."""
    if access.target_group is not None:
        yield "RequestCount"
    if access.target_status is not None and 200 <= access.target_status < 600:
        yield f"HTTPCode_Target_{access.target_status // 100}XX_Count"
    if access.elb_status != access.target_status and access.elb_status >= 300:
        yield f"HTTPCode_ELB_{access.elb_status // 100}XX_Count"
        if access.elb_status in (500, 502, 503, 504):
            yield f"HTTPCode_ELB_{access.elb_status}_Count"
    if access.connect_failed:
        yield "TargetConnectionErrorCount"


def _keys(name: str, access: Access) -> Iterator[Key]:
    balancer = ("LoadBalancer", access.load_balancer)
    yield (ELB, name, frozenset((balancer,)))
    if access.target_group is not None and not name.startswith("HTTPCode_ELB_"):
        yield (ELB, name, frozenset((balancer, ("TargetGroup", access.target_group))))


def _per_target(key: Key, at: float, count: int, hosts: list[HostCount]) -> Iterator[Measured]:
    """RequestCountPerTarget: the requests of a group over its healthy targets."""
    _, name, dimensions = key
    if name != "RequestCount" or len(dimensions) == 1:
        return
    group = dict(dimensions)["TargetGroup"]
    healthy = next((host.healthy for host in hosts if host.target_group == group), 0)
    each = count / max(1, healthy)
    for kept in (dimensions, frozenset((("TargetGroup", group),))):
        yield Measured((ELB, "RequestCountPerTarget", kept), at, Sample(1, each, each, each), "Count")


def host_counts(hosts: list[HostCount], at: float) -> Iterator[Measured]:
    """HealthyHostCount and UnHealthyHostCount of the groups that have targets."""
    for host in hosts:
        if host.registered:
            dimensions = frozenset((("LoadBalancer", host.load_balancer), ("TargetGroup", host.target_group)))
            yield Measured((ELB, "HealthyHostCount", dimensions), at, Sample.of([host.healthy]), "Count")
            yield Measured((ELB, "UnHealthyHostCount", dimensions), at, Sample.of([host.unhealthy]), "Count")


async def tasks(context: Context, at: float) -> list[Measured]:
    """The task counts of the clusters that have Container Insights on.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-metrics-ECS.html
    """
    measured: list[Measured] = []
    clusters = (await context.call("ecs", "list_clusters"))["clusterArns"]
    if not clusters:
        return []
    described = await context.call("ecs", "describe_clusters", clusters=clusters, include=["SETTINGS"])
    for cluster in described["clusters"]:
        settings = {one["name"]: one["value"] for one in cluster.get("settings", [])}
        if settings.get("containerInsights", "disabled") != "disabled":
            measured += await _cluster(context, cluster["clusterName"], at)
    return measured


async def _cluster(context: Context, name: str, at: float) -> list[Measured]:
    def measured(metric: str, count: int, *dimensions: tuple[str, str]) -> Measured:
        return Measured((INSIGHTS, metric, frozenset((cluster, *dimensions))), at, Sample.of([count]), "Count")

    cluster = ("ClusterName", name)
    running = await context.call("ecs", "list_tasks", cluster=name, desiredStatus="RUNNING")
    services = (await context.call("ecs", "list_services", cluster=name))["serviceArns"]
    found = [measured("TaskCount", len(running["taskArns"])), measured("ServiceCount", len(services))]
    for start in range(0, len(services), 10):
        page = await context.call("ecs", "describe_services", cluster=name, services=services[start : start + 10])
        for service in page["services"]:
            named = ("ServiceName", service["serviceName"])
            for metric, count in (
                ("RunningTaskCount", service["runningCount"]),
                ("PendingTaskCount", service["pendingCount"]),
                ("DesiredTaskCount", service["desiredCount"]),
            ):
                found.append(measured(metric, count, named))
    return found

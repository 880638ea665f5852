"""AWS::ECS::Cluster and its capacity providers."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, tag_changes, words

RENAMED = {"ClusterSettings": "Settings"}


def create_cluster(work: Work) -> None:
    name = work.get("ClusterName") or work.name(255)
    made = work.send("ecs", "create_cluster", _own(work), clusterName=name)
    work.made(made["cluster"]["clusterName"])


def update_cluster(work: Work) -> None:
    if work.changed & {"ClusterSettings", "Configuration", "ServiceConnectDefaults"}:
        own = {
            name: value
            for name, value in _own(work).items()
            if name in ("Settings", "Configuration", "ServiceConnectDefaults")
        }
        work.send("ecs", "update_cluster", own, cluster=work.physical_id)
    if work.changed & {"CapacityProviders", "DefaultCapacityProviderStrategy"}:
        set_capacity_providers(work)
    retag(work, cluster_attributes(work)["Arn"])


def retag(work: Work, arn: str) -> None:
    """Bring the tags of an ECS resource to what is wanted."""
    put, remove = tag_changes(work)
    if put:
        work.send("ecs", "tag_resource", {"Tags": put}, resourceArn=arn)
    if remove:
        work.call("ecs", "untag_resource", resourceArn=arn, tagKeys=remove)


def _own(work: Work) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in work.without("ClusterName").items()}


def cluster_attributes(work: Work) -> dict[str, Any]:
    return {"Arn": f"arn:aws:ecs:{work.region}:{work.account}:cluster/{work.physical_id}"}


def delete_cluster(work: Work) -> None:
    with ignoring_missing("ClusterNotFoundException"):
        work.call("ecs", "delete_cluster", cluster=work.physical_id)


def associate_capacity_providers(work: Work) -> None:
    work.physical_id = work.get("Cluster")
    set_capacity_providers(work)
    work.made(work.physical_id)


def set_capacity_providers(work: Work) -> None:
    wanted = {"CapacityProviders": [], "DefaultCapacityProviderStrategy": []}
    wanted |= work.only("CapacityProviders", "DefaultCapacityProviderStrategy")
    work.send("ecs", "put_cluster_capacity_providers", wanted, cluster=work.physical_id)


def forget_capacity_providers(work: Work) -> None:
    with ignoring_missing("ClusterNotFoundException"):
        work.call(
            "ecs",
            "put_cluster_capacity_providers",
            cluster=work.physical_id,
            capacityProviders=[],
            defaultCapacityProviderStrategy=[],
        )


KINDS = (
    Kind(
        "AWS::ECS::Cluster",
        words(
            "CapacityProviders ClusterName ClusterSettings Configuration DefaultCapacityProviderStrategy "
            "ServiceConnectDefaults Tags"
        ),
        create_cluster, delete_cluster, update_cluster, words("ClusterName"), cluster_attributes, "ClusterName",
    ),
    Kind(
        "AWS::ECS::ClusterCapacityProviderAssociations",
        words("CapacityProviders Cluster DefaultCapacityProviderStrategy"),
        associate_capacity_providers, forget_capacity_providers, set_capacity_providers, words("Cluster"),
        recorded_only=always,
    ),
)  # fmt: skip

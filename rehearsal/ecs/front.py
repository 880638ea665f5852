"""The ECS actions that moto lacks or only pretends: moto parses and serializes, the loop does the work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from moto.core.responses import ActionResult
from moto.ecs.responses import EC2ContainerServiceResponse

from rehearsal.context import Context
from rehearsal.ecs.deployment_api import DeploymentApi
from rehearsal.ecs.refusals import invalid
from rehearsal.ecs.scheduler import Scheduler
from rehearsal.ecs.service_api import ServiceApi
from rehearsal.ecs.state import Json
from rehearsal.ecs.task_api import TaskApi

LIST_SERVICES_PAGE, LIST_DEPLOYMENTS_PAGE, LIST_TASKS_PAGE = 10, 20, 100


class EcsFront(EC2ContainerServiceResponse):
    """Services, deployments, revisions and tasks; everything else falls through to moto."""

    context: Context
    scheduler: Scheduler

    @classmethod
    def bound(cls, context: Context, scheduler: Scheduler) -> type[EcsFront]:
        """A front of this rehearsal (moto makes an instance per request)."""
        return type("BoundEcsFront", (cls,), {"context": context, "scheduler": scheduler})

    # --- services

    def create_service(self) -> ActionResult:
        cluster = self._cluster_arn()
        answer = self._in_loop(ServiceApi(self.scheduler).create(self._members(), cluster))
        service = answer["service"]
        # application-autoscaling looks the service up in moto's own backend
        self.ecs_backend.create_service(
            cluster, service["serviceName"], 0, service["taskDefinition"], tags=self._members().get("tags")
        )
        return ActionResult(answer)

    def update_service(self) -> ActionResult:
        return self._answer(ServiceApi(self.scheduler).update)

    def delete_service(self) -> ActionResult:
        cluster = self._cluster_arn()
        answer = self._in_loop(ServiceApi(self.scheduler).delete(self._members(), cluster))
        self.ecs_backend.delete_service(cluster, answer["service"]["serviceName"], force=True)
        return ActionResult(answer)

    def describe_services(self) -> ActionResult:
        return self._answer(ServiceApi(self.scheduler).describe)

    def list_services(self) -> ActionResult:
        arns = self._in_loop(ServiceApi(self.scheduler).list(self._members(), self._cluster_arn()))
        return self._page("serviceArns", arns, LIST_SERVICES_PAGE)

    def describe_clusters(self) -> ActionResult:
        for cluster in self.ecs_backend.clusters.values():
            counts = self._in_loop(self._counts(cluster.arn))
            cluster.active_services_count, cluster.running_tasks_count, cluster.pending_tasks_count = counts
        return super().describe_clusters()

    async def _counts(self, cluster_arn: str) -> tuple[int, int, int]:
        tasks = [task for task in self.scheduler.tasks if task.cluster_arn == cluster_arn and task.live]
        running = sum(task.last_status == "RUNNING" for task in tasks)
        services = [one for one in self.scheduler.services if one.cluster_arn == cluster_arn and one.status == "ACTIVE"]
        return len(services), running, len(tasks) - running

    # --- service deployments and revisions

    def list_service_deployments(self) -> ActionResult:
        members = self._members()
        found = self._in_loop(self._deployments_of(members, self._cluster_arn()))
        return self._page("serviceDeployments", found, LIST_DEPLOYMENTS_PAGE)

    async def _deployments_of(self, members: Json, cluster_arn: str) -> list[Json]:
        service = ServiceApi(self.scheduler).get(members["service"], cluster_arn)
        return await DeploymentApi(self.scheduler).list(members, service)

    def describe_service_deployments(self) -> ActionResult:
        return ActionResult(self._in_loop(DeploymentApi(self.scheduler).describe(self._members())))

    def describe_service_revisions(self) -> ActionResult:
        return ActionResult(self._in_loop(DeploymentApi(self.scheduler).describe_revisions(self._members())))

    def stop_service_deployment(self) -> ActionResult:
        return ActionResult(self._in_loop(DeploymentApi(self.scheduler).stop(self._members())))

    def continue_service_deployment(self) -> ActionResult:
        return ActionResult(self._in_loop(DeploymentApi(self.scheduler).proceed(self._members())))

    # --- tasks

    def list_tasks(self) -> ActionResult:
        arns = self._in_loop(TaskApi(self.scheduler).list(self._members(), self._cluster_arn()))
        return self._page("taskArns", arns, LIST_TASKS_PAGE)

    def describe_tasks(self) -> ActionResult:
        return self._answer(TaskApi(self.scheduler).describe)

    def stop_task(self) -> ActionResult:
        return self._answer(TaskApi(self.scheduler).stop)

    def run_task(self) -> ActionResult:
        return self._answer(TaskApi(self.scheduler).run)

    # --- how

    def _answer(self, action: Callable[[Json, str], Coroutine[Any, Any, Json]]) -> ActionResult:
        return ActionResult(self._in_loop(action(self._members(), self._cluster_arn())))

    def _in_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.context.run(work)

    def _members(self) -> Json:
        return dict(self.params)

    def _cluster_arn(self) -> str:
        return str(self.ecs_backend._get_cluster(self._members().get("cluster") or "default").arn)

    def _page(self, key: str, items: list[Any], default: int) -> ActionResult:
        members = self._members()
        try:
            start = int(members.get("nextToken") or 0)
        except ValueError:
            raise invalid("Invalid token") from None
        size = members.get("maxResults") or default
        more = {"nextToken": str(start + size)} if start + size < len(items) else {}
        return ActionResult({key: items[start : start + size], **more})

"""CloudFormation's API over the rehearsal's own engine; moto's drops properties and never rolls back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import moto.cloudformation.urls
import moto.settings
from moto.core.responses import ActionResult, BaseResponse, EmptyResult

from rehearsal.context import Context
from rehearsal.stacks import views
from rehearsal.stacks.kind import words
from rehearsal.stacks.kinds import KINDS
from rehearsal.stacks.plan import without_values
from rehearsal.stacks.regional import RegionalStacks
from rehearsal.stacks.requests import ValidationError, only_known
from rehearsal.stacks.stack import Stack

STOP_TIMEOUT_S = 5.0
COMMON = words("StackName TemplateBody TemplateURL Parameters Capabilities Tags RoleARN ClientRequestToken")
CREATE = COMMON | words("DisableRollback OnFailure EnableTerminationProtection")
UPDATE = COMMON | words("UsePreviousTemplate")
CHANGE_SET = COMMON | words("ChangeSetName ChangeSetType ClientToken Description OnStackFailure UsePreviousTemplate")


class CloudFormation:
    """The rehearsal's CloudFormation: every region's stacks, and the API over them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._regions: dict[str, RegionalStacks] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Answer CloudFormation's API from here on. Call before the server starts."""
        # Roles attach AWS's own managed policies; moto knows them only when asked to.
        moto.settings.default_user_config.setdefault("iam", {})["load_aws_managed_policies"] = True
        front = type("CloudFormationFront", (Front,), {"cloudformation": self})
        moto.cloudformation.urls.url_paths["{0}/$"] = front.dispatch

    async def start(self) -> None:
        """Nothing runs until a request asks for it."""

    async def stop(self) -> None:
        """End every operation."""
        with self._lock:
            regions = list(self._regions.values())
        await asyncio.gather(*(asyncio.to_thread(region.stop, STOP_TIMEOUT_S) for region in regions))

    def region(self, name: str) -> RegionalStacks:
        """The stacks of one region."""
        with self._lock:
            return self._regions.setdefault(name, RegionalStacks(self.context, name))

    def recorded_only(self) -> list[str]:
        """The resource types in use that are stored but have none of their effect."""
        with self._lock:
            stacks = [stack for region in self._regions.values() for stack in list(region.stacks.values())]
        return sorted(
            {
                resource.type_name
                for stack in stacks
                if stack.exists
                for resource in list(stack.resources.values())
                if KINDS[resource.type_name].recorded_only(resource.properties)
            }
        )


class Front(BaseResponse):
    """One method per action; a subclass made by `install` knows its CloudFormation."""

    cloudformation: ClassVar[CloudFormation]

    def __init__(self) -> None:
        super().__init__(service_name="cloudformation")
        self.automated_parameter_parsing = True

    @property
    def _stacks(self) -> RegionalStacks:
        return self.cloudformation.region(self.region)

    @property
    def _request(self) -> dict[str, Any]:
        return dict(self.params)

    def create_stack(self) -> ActionResult:
        return ActionResult({"StackId": self._stacks.create(only_known(self._request, CREATE)).id})

    def update_stack(self) -> ActionResult:
        return ActionResult({"StackId": self._stacks.update(only_known(self._request, UPDATE)).id})

    def delete_stack(self) -> ActionResult:
        known = words("StackName RetainResources ClientRequestToken RoleARN")
        self._stacks.delete(only_known(self._request, known))
        return EmptyResult()

    def continue_update_rollback(self) -> ActionResult:
        request = only_known(self._request, words("StackName ClientRequestToken RoleARN"))
        self._stacks.continue_rollback(self._stacks.get(request["StackName"]))
        return ActionResult({})

    def update_termination_protection(self) -> ActionResult:
        stack = self._stack()
        stack.is_protected = bool(self._request["EnableTerminationProtection"])
        return ActionResult({"StackId": stack.id})

    def describe_stacks(self) -> ActionResult:
        if "StackName" in self._request:
            found = [self._stack()]
        else:
            found = [stack for stack in list(self._stacks.stacks.values()) if stack.exists]
        return self._page("Stacks", [views.stack(stack) for stack in found])

    def list_stacks(self) -> ActionResult:
        wanted = self._request.get("StackStatusFilter", [])
        found = [stack for stack in list(self._stacks.stacks.values()) if not wanted or stack.status in wanted]
        return self._page("StackSummaries", [views.summary(stack) for stack in found])

    def describe_stack_events(self) -> ActionResult:
        stack = self._stack("Stack [{}] does not exist")
        return self._page("StackEvents", stack.events[::-1])

    def describe_stack_resources(self) -> ActionResult:
        if "PhysicalResourceId" in self._request:
            raise ValidationError("DescribeStackResources by PhysicalResourceId is not rehearsed")
        stack = self._stack()
        wanted = self._request.get("LogicalResourceId")
        found = [views.resource_of(stack, wanted)] if wanted else list(stack.resources.values())
        return ActionResult({"StackResources": [views.resource(stack, resource) for resource in found]})

    def describe_stack_resource(self) -> ActionResult:
        stack = self._stack("Stack '{}' does not exist")
        resource = views.resource_of(stack, self._request["LogicalResourceId"])
        return ActionResult({"StackResourceDetail": views.resource_detail(stack, resource)})

    def list_stack_resources(self) -> ActionResult:
        found = [views.resource_summary(resource) for resource in list(self._stack().resources.values())]
        return self._page("StackResourceSummaries", found)

    def get_template(self) -> ActionResult:
        if "ChangeSetName" in self._request:
            _, change_set = self._stacks.find_change_set(self._request)
            body = change_set.target.template.body
        else:
            body = self._stack().target.template.body
        return ActionResult({"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]})

    def get_template_summary(self) -> ActionResult:
        return ActionResult(views.template_summary(self._template()))

    def validate_template(self) -> ActionResult:
        return ActionResult(views.validation(self._template()))

    def create_change_set(self) -> ActionResult:
        stack, change_set = self._stacks.create_change_set(only_known(self._request, CHANGE_SET))
        return ActionResult({"Id": change_set.id, "StackId": stack.id})

    def describe_change_set(self) -> ActionResult:
        stack, change_set = self._stacks.find_change_set(self._request)
        asked = self._request.get("IncludePropertyValues")
        changes = change_set.changes if asked else [without_values(change) for change in change_set.changes]
        shown = views.page("Changes", changes, self._request.get("NextToken"))
        return ActionResult(views.change_set(stack, change_set) | shown)

    def execute_change_set(self) -> ActionResult:
        known = words("ChangeSetName StackName ClientRequestToken DisableRollback")
        self._stacks.execute_change_set(only_known(self._request, known))
        return ActionResult({})

    def delete_change_set(self) -> ActionResult:
        self._stacks.delete_change_set(self._request)
        return ActionResult({})

    def list_change_sets(self) -> ActionResult:
        stack = self._stack("Stack [{}] does not exist")
        found = list(stack.change_sets.values())
        return self._page("Summaries", [views.change_set_summary(stack, change_set) for change_set in found])

    def _stack(self, message: str = "Stack with id {} does not exist") -> Stack:
        return self._stacks.get(self._request["StackName"], message)

    def _template(self) -> Any:
        if "StackName" in self._request:
            return self._stack().target.template
        return self._stacks.requests.template(self._request)

    def _page(self, key: str, items: list[Any]) -> ActionResult:
        return ActionResult(views.page(key, items, self._request.get("NextToken")))

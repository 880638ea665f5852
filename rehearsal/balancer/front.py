"""The door from moto to the actions of the ELBv2 API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import moto.elb.urls
import moto.elbv2.urls
from moto.core.responses import ActionResult, BaseResponse

from rehearsal.context import Context

VERSION = "2015-12-01"


def install(context: Context, actions: list[object]) -> None:
    """Answer ELBv2 calls by `actions`, in the event loop; classic load balancers stay moto's.

    Both services share a host name, so moto tells them apart by the API version in the form, and so does this.
    """
    own = response(context, actions)
    classic = moto.elb.urls.url_paths["{0}/$"]

    def by_version(*args: Any, **kwargs: Any) -> Any:
        answer = own.dispatch if args[0].values.get("Version") == VERSION else classic
        return answer(*args, **kwargs)

    moto.elb.urls.url_paths["{0}/$"] = by_version
    moto.elbv2.urls.url_paths["{0}/$"] = by_version


def response(context: Context, actions: list[object]) -> type[BaseResponse]:
    """A Response class with one method per public method of `actions`."""

    class ElbFront(BaseResponse):
        def __init__(self) -> None:
            super().__init__(service_name="elbv2")
            self.automated_parameter_parsing = True

    for group in actions:
        for name in dir(group):
            if not name.startswith("_"):
                setattr(ElbFront, name, _answering(context, getattr(group, name)))
    return ElbFront


def _answering(context: Context, action: Callable[[dict[str, Any]], Any]) -> Callable[[BaseResponse], ActionResult]:
    def answer(self: BaseResponse) -> ActionResult:
        return ActionResult(context.run(action(self._get_params())))

    return answer

"""Services that are away for a while: to see what a pipeline does without them."""

from __future__ import annotations

import threading
from typing import Any


class Outages:
    """Which services are switched off. They go by boto3's names: s3, ecr, ecs, elbv2 ..."""

    def __init__(self) -> None:
        self._off: dict[str, str] = {}
        self._lock = threading.Lock()

    def is_off(self, signing_name: str) -> bool:
        """Whether the service that requests are signed for is away."""
        with self._lock:
            return signing_name in self._off.values()

    def told(self) -> dict[str, list[str]]:
        """The services that are off now."""
        with self._lock:
            return {"services": sorted(self._off)}

    def switch(self, given: Any) -> dict[str, list[str]]:
        """Exactly the services of `{"services": [...]}` are off from now on. Raises ValueError for one unknown."""
        services = given.get("services") if isinstance(given, dict) else None
        if not isinstance(services, list):
            raise ValueError('Send {"services": [...]}; an empty list ends the outage.')
        from botocore.session import get_session  # a third of a second, which `rehearsal status` and `down` save

        session = get_session()
        if unknown := [service for service in services if service not in session.get_available_services()]:
            raise ValueError(f"AWS has no service {', '.join(map(str, unknown))}; say s3, ecr, ecs, elbv2 ...")
        off = {service: session.get_service_model(service).signing_name for service in services}
        with self._lock:
            self._off = off
        return self.told()

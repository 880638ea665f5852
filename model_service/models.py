"""The models that are served, by name and version, and the paths that lead to them. All on the event loop."""

from __future__ import annotations

from model_service.endpoints import Endpoint
from model_service.errors import RequestRefused
from model_service.loading import Loaded
from model_service.metrics import Metrics, ModelStats
from model_service.scheduling.plan import QueueLimits
from model_service.scheduling.scheduler import Scheduler
from model_service.served import Served
from model_service.settings import Settings
from model_service.streaming.sessions import Sessions

KINDS = ("infer", "predict")


class Models:
    """What is served. `endpoints` is looked up by the raw path of each request."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.endpoints: dict[bytes, Endpoint] = {}
        self.sessions = Sessions(settings)
        self._settings = settings
        self._metrics = metrics
        self._limits = QueueLimits(settings.max_pending, settings.max_queue_s, settings.max_queue_bytes)
        self._versions: dict[str, dict[str, Served]] = {}  # the newest of a model last

    def __len__(self) -> int:
        return len(self._versions)

    def has(self, name: str, version: str) -> bool:
        """Whether this very version is served."""
        return version in self._versions.get(name, {})

    @property
    def all(self) -> list[Served]:
        """Every version of every model, the newest of a model last."""
        return [served for versions in self._versions.values() for served in versions.values()]

    @property
    def default(self) -> Served | None:
        """What /predict asks: DEFAULT_MODEL, or else the model that has been there longest; None if it is not there."""
        name = self._settings.default_model or next(iter(self._versions), "")
        return self.newest(name) if name in self._versions else None

    def newest(self, name: str) -> Served:
        """The version of model `name` that a path without a version asks. Raises KeyError."""
        return next(reversed(self._versions[name].values()))

    def versions(self, name: str) -> list[str]:
        """The versions of model `name`, the newest last."""
        return list(self._versions[name])

    def find(self, name: str, version: str | None = None) -> Served:
        """Raises RequestRefused(404) for what is not served."""
        versions = self._versions.get(name)
        if versions is None:
            known = ", ".join(f"`{known}`" for known in self._versions) or "none"
            raise RequestRefused(404, f"unknown model `{name}`; this server has {known}")
        if version is None:
            return self.newest(name)
        if version not in versions:
            known = ", ".join(f"`{known}`" for known in versions)
            raise RequestRefused(404, f"unknown version `{version}`; `{name}` has {known}")
        return versions[version]

    def serve(self, loaded: Loaded) -> Served:
        """Serve `loaded` from now on: all paths of its name without a version lead to it."""
        model = loaded.model
        stats = ModelStats(model.name, model.version)
        stats.runs_on = model.runs_on.describe()
        scheduler = Scheduler(model, loaded.plan, self._limits, stats)
        stats.queue = lambda: (scheduler.pending, scheduler.queued_s)
        served = Served(loaded, scheduler, stats)
        self._metrics.models.append(stats)
        self._versions.setdefault(model.name, {})[model.version] = served
        self._lead(served, f"/v2/models/{model.name}")
        self._lead(served, f"/v2/models/{model.name}/versions/{model.version}")
        self._lead_default()
        return served

    def count_failed_load(self, name: str) -> None:
        """Count that what the repository has under `name` could not be loaded."""
        self._metrics.failed_loads[name] += 1

    def withdraw(self, served: Served) -> None:
        """Let no further request come to `served`."""
        model = served.model
        versions = self._versions[model.name]
        del versions[model.version]
        base = f"/v2/models/{model.name}"
        self._block(f"{base}/versions/{model.version}")
        if not versions:
            del self._versions[model.name]
            self._block(base)
        self._lead_default()

    async def end(self, served: Served) -> None:
        """Have the streams of a model that is withdrawn leave, answer what it has taken, and forget it."""
        await self.sessions.leave(served)
        await served.scheduler.drain()
        self._metrics.models.remove(served.stats)

    def _lead_default(self) -> None:
        if default := self.default:
            self._lead_path("/predict", "predict", default)
        else:
            self.endpoints.pop(b"/predict", None)

    def _lead(self, served: Served, base: str) -> None:
        for kind in KINDS:
            self._lead_path(f"{base}/{kind}", kind, served)

    def _lead_path(self, path: str, kind: str, served: Served) -> None:
        """Requests whose bodies are still on their way hold the endpoint, and so go to the new version too."""
        endpoint = self.endpoints.get(path.encode())
        if endpoint:
            endpoint.served = served
        else:
            self.endpoints[path.encode()] = Endpoint(kind, served, self._settings)

    def _block(self, base: str) -> None:
        for kind in KINDS:
            del self.endpoints[f"{base}/{kind}".encode()]

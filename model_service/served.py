"""A model that is served: what was loaded, the scheduler that runs it, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_service.inference.classification import LabelsOf
from model_service.loading import Loaded
from model_service.metrics import ModelStats
from model_service.runtime.model import Model
from model_service.scheduling.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Served:
    """One version of one model."""

    loaded: Loaded
    scheduler: Scheduler
    stats: ModelStats

    model: Model = field(init=False)
    labels_of: LabelsOf = field(init=False)  # the labels of the elements of each output that has any

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.loaded.model)  # once, and not for each request
        object.__setattr__(self, "labels_of", self.loaded.roles.labels_of)

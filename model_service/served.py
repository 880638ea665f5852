"""A model that is served: what was loaded, the scheduler that runs it, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from model_service.inference.classification import LabelsOf
from model_service.loading import Loaded
from model_service.metrics import ModelStats
from model_service.runtime.model import Model
from model_service.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class Served:
    """One version of one model."""

    loaded: Loaded
    scheduler: Scheduler
    stats: ModelStats

    @cached_property
    def model(self) -> Model:
        """The model itself."""
        return self.loaded.model

    @cached_property
    def labels_of(self) -> LabelsOf:
        """The labels of the elements of each output that has any."""
        return self.loaded.roles.labels_of

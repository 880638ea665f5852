"""`services.<name>.gate`: from where a release is judged, and by what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Cidr, Section

ENOUGH_PAIRS = 60  # the comparison wants 50 answers of each side; a few may fail or come too late


class Load(Section):
    rps: Annotated[float, Field(gt=0, le=10000)] = 50
    duration_s: Annotated[int, Field(ge=1, le=900)] = 60
    min_requests: Annotated[int, Field(ge=1)] = 500
    p99_ms: Annotated[float, Field(gt=0)] = 200
    max_failure_ratio: Annotated[float, Field(ge=0, le=1)] = 0.001
    kind: Literal["predict", "infer"] = "predict"
    requests: str | None = None

    @model_validator(mode="after")
    def _sends_what_it_asks_for(self) -> Load:
        if self.rps * self.duration_s < self.min_requests:
            raise ValueError(
                f"rps {self.rps:g} x duration_s {self.duration_s} sends {self.rps * self.duration_s:g} requests, and "
                f"min_requests {self.min_requests} are needed to judge; lower it, or send more"
            )
        return self


class AgainstLive(Section):
    """The new release beside what serves: pairs of requests at the same rate, after the load."""

    rps: Annotated[float, Field(gt=0, le=1000)] = 10
    duration_s: Annotated[int, Field(ge=1, le=300)] = 30
    max_latency_ratio: Annotated[float, Field(ge=1, le=100)] = 1.5

    @model_validator(mode="after")
    def _gives_enough_pairs(self) -> AgainstLive:
        if self.rps * self.duration_s < ENOUGH_PAIRS:
            raise ValueError(
                f"rps {self.rps:g} x duration_s {self.duration_s} gives {self.rps * self.duration_s:g} pairs of "
                f"requests, too few to compare; {ENOUGH_PAIRS} are needed, 300 see most of a slow tail"
            )
        return self


class Gate(Section):
    from_: Annotated[Literal["vpc", "runner"], Field(alias="from")] = "vpc"
    runner_cidr: Cidr | None = None
    predict: Literal["label", "status", "off"] = "label"
    load: Load = Load()
    against_live: AgainstLive | None = AgainstLive()

    @property
    def asks_predict(self) -> bool:
        """Whether golden rows can be sent to `/predict`: it is there, and takes the bodies that they make."""
        return self.predict != "off" and self.load.kind == "predict" and self.load.requests is None

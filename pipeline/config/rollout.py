"""`services.<name>.rollout`: how production moves to a release."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section

Strategy = Literal["BLUE_GREEN", "CANARY", "LINEAR", "ROLLING"]
Minutes = Annotated[int, Field(ge=0, le=1440)]
# Percentages are multiples of 0.1:
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CanaryConfiguration.html


class Canary(Section):
    """CANARY's first step."""

    percent: Annotated[float, Field(ge=0.1, le=100, multiple_of=0.1)] = 5
    bake_minutes: Minutes = 10


class Linear(Section):
    """LINEAR's steps, all alike."""

    step_percent: Annotated[float, Field(ge=3, le=100, multiple_of=0.1)] = 10
    step_bake_minutes: Minutes = 6


class Rollout(Section):
    strategy: Strategy = "BLUE_GREEN"
    canary: Canary | None = None
    linear: Linear | None = None
    bake_minutes: Minutes = 10
    start_deadline_s: Annotated[int, Field(ge=10, le=86400)] = 300
    max_failed_tasks: Annotated[int, Field(ge=1, le=20)] = 3

    @model_validator(mode="after")
    def _blocks_belong_to_their_strategy(self) -> Rollout:
        for block, strategy in (("canary", "CANARY"), ("linear", "LINEAR")):
            if getattr(self, block) is not None and self.strategy != strategy:
                raise ValueError(
                    f"`{block}` belongs to strategy {strategy}, and strategy is {self.strategy}; "
                    f"set `strategy: {strategy}`, or remove `{block}`"
                )
        return self

    @property
    def is_gated(self) -> bool:
        """Whether gates judge a release before production reaches it; ROLLING has nothing to wait at."""
        return self.strategy != "ROLLING"

    @property
    def canary_step(self) -> Canary:
        return self.canary or Canary()

    @property
    def linear_steps(self) -> Linear:
        return self.linear or Linear()

    @property
    def shift_minutes(self) -> int:
        """How long production takes from its first step to all of it; ECS does not wait after the last step."""
        if self.strategy == "CANARY":
            return self.canary_step.bake_minutes
        if self.strategy == "LINEAR":
            return (math.ceil(100 / self.linear_steps.step_percent) - 1) * self.linear_steps.step_bake_minutes
        return 0

    def maximum_percent(self, tasks: int) -> int:
        """How many tasks may run during a deployment, in percent of those that should.

        ROLLING is for capacity that cannot double. ECS rounds down, and one more than all must be allowed, or nothing
        is ever replaced: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
        """
        return 200 if self.is_gated else max(150, math.ceil(100 * (tasks + 1) / tasks))

    def at_once(self, live_strategy: str) -> Rollout:
        """All of the traffic in one step and no bake, for going back to what has proved itself.

        By the strategy that the service has, whatever was written here since: going back waits for no `deploy`.
        """
        strategy = "ROLLING" if live_strategy == "ROLLING" else "BLUE_GREEN"
        return self.model_copy(update={"strategy": strategy, "canary": None, "linear": None, "bake_minutes": 0})

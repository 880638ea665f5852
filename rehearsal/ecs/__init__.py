"""The rehearsal's ECS: services, blue/green and rolling deployments, tasks as real processes."""

from rehearsal.ecs.part import NOT_REHEARSED, Ecs
from rehearsal.ecs.questions import OpenQuestions

__all__ = ["NOT_REHEARSED", "Ecs", "OpenQuestions"]

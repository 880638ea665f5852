"""Moto's routes are the process's own: a test that puts a part of the rehearsal there takes it away again."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import moto.settings

SERVICES = ("cloudformation", "cloudwatch", "ecr", "ecs", "elb", "elbv2")


@contextmanager
def own_routes() -> Iterator[None]:
    """Within, parts may be installed; afterwards moto answers as it did before."""
    tables = [importlib.import_module(f"moto.{service}.urls").url_paths for service in SERVICES]
    before = [dict(table) for table in tables]
    user_config = copy.deepcopy(moto.settings.default_user_config)
    try:
        yield
    finally:
        for table, routes in zip(tables, before, strict=True):
            table.clear()
            table.update(routes)
        moto.settings.default_user_config.clear()
        moto.settings.default_user_config.update(user_config)

"""onnxship.yaml, read and checked at once: unknown keys and wrong values are shown together, each with its path.

`load` resolves one environment: its block is deep-merged over the rest of the file, then the overlay (a small
YAML file of the same shape, named by ONNXSHIP_OVERLAY) over both. The commented onnxship.yaml at the top of the
repository is the reference of every key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.gate import AgainstLive, Gate, Load
from pipeline.config.mistakes import config_error, mistakes_in, unused_keys
from pipeline.config.predict import Predict, Preprocessing, Resize
from pipeline.config.rollout import Canary, Linear, Rollout
from pipeline.config.schema import (
    CONFIG_FILE,
    Compute,
    Config,
    Cost,
    Edge,
    Environment,
    ExistingVpc,
    IgnoredFinding,
    Image,
    Model,
    Network,
    QualityFloor,
    Route,
    Scan,
    Service,
    Tolerance,
)
from pipeline.errors import ConfigError, UsageError

__all__ = [
    "CONFIG_FILE", "AgainstLive", "Canary", "Compute", "Config", "Cost", "Edge", "Environment", "ExistingVpc", "Gate",
    "IgnoredFinding", "Image", "Linear", "Load", "Model", "Network", "Predict", "Preprocessing", "QualityFloor",
    "Resize", "Rollout", "Route", "Scan", "Service", "Tolerance", "load",
]  # fmt: skip


def load(path: Path, env: str | None = None, overlay: Path | None = None) -> Config:
    """Read `path`, choose the environment, apply the overlay, check everything.

    Raises ConfigError with every mistake of the file, or UsageError when the environment is not clear.
    """
    raw = _read_mapping(path)
    overlay = overlay or _overlay_from_environment()
    environments = raw.pop("environments", None)
    name, block = _choose_environment(environments, env, path)
    merged = _merge(raw, {k: v for k, v in block.items() if k not in Environment.model_fields})
    services = merged.get("services")
    unused = list(unused_keys(services)) if isinstance(services, dict) else []  # of the file: an overlay serves many
    if overlay:
        merged = _merge(merged, _expand_every_service(_read_mapping(overlay), merged))
    merged["environment"] = {k: v for k, v in block.items() if k in Environment.model_fields}
    for own in ("environment_name", "directory", "path", "overlay"):
        if own in raw:
            raise ConfigError(f"{path}: `{own}` is not a key of this file.", f"remove `{own}`")
    merged |= {"environment_name": name, "directory": path.parent.resolve(), "path": path, "overlay": overlay}
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise config_error(path, [*mistakes_in(error, name), *unused]) from error
    if unused:
        raise config_error(path, unused)
    return config


def _overlay_from_environment() -> Path | None:
    named = os.environ.get("ONNXSHIP_OVERLAY")
    if named and not Path(named).exists():
        raise UsageError(
            f"There is no {named}, which ONNXSHIP_OVERLAY names: this shell points at a local AWS that is gone.",
            'leave it with `eval "$(onnxship rehearse env --unset)"`',
        )
    return Path(named) if named else None


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key stands once: of two, plain YAML would silently take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader that counts keys
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no {path}.", "write one with `onnxship init --model my.onnx`, or name it with `--config`"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {where}", "correct that line") from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "name a readable file with `--config`"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping at its top.", "start from `onnxship init`'s file")
    return content


def _choose_environment(environments: object, env: str | None, path: Path) -> tuple[str, dict[str, Any]]:
    if not isinstance(environments, dict) or not environments:
        raise ConfigError(
            f"{path}: `environments` is missing or empty.",
            'add `environments: {production: {account: "111122223333", region: eu-west-1}}`',
        )
    if env is None and len(environments) > 1:
        raise UsageError(
            f"{path} has {len(environments)} environments: {', '.join(environments)}.", "name one with `--env NAME`"
        )
    name = env or next(iter(environments))
    if name not in environments:
        raise UsageError(
            f"{path} has no environment `{name}`; it has {', '.join(environments)}.",
            f"use `--env {next(iter(environments))}`",
        )
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name):
        raise ConfigError(
            f"{path}: environment name `{name}` does not match [a-z][a-z0-9-]{{0,15}}.", "rename the environment"
        )
    block = environments[name]
    if not isinstance(block, dict):
        raise ConfigError(f"{path}: environments.{name} holds no mapping.", "give it `account` and `region`")
    return name, block


def _expand_every_service(overlay: dict[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
    """In an overlay, `services: {"*": ...}` stands for every service of the file."""
    services = overlay.get("services")
    if not isinstance(services, dict) or "*" not in services:
        return overlay
    named = {k: v for k, v in services.items() if k != "*"}
    every = dict.fromkeys(merged.get("services") or {}, services["*"])
    return overlay | {"services": _merge(every, named)}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else above replaces what is below."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged

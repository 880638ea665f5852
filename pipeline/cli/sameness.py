"""Whether two releases would put the very same thing into production."""

from __future__ import annotations

import hashlib
import json

from pipeline.config import Config
from pipeline.results import Built, Published
from pipeline.templates import template_hashes


def fingerprint(config: Config, service: str, built: Built, published: Published) -> str:
    """Equal for two releases that would put the very same thing into production; hex sha256."""
    settings = config.services[service].model_dump(mode="json", exclude={"image", "model", "gate", "scan"})
    content = {
        "image_digest": built.image_digest,
        "manifest_sha256": published.manifest_sha256,
        "templates": template_hashes(config),
        "service": settings,
        "network": config.network.model_dump(mode="json"),
        "edge": config.edge.model_dump(mode="json"),
        "cost": config.cost.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

"""Whether two releases, or two runs of one, would put the very same thing into production."""

from __future__ import annotations

import hashlib
import json

from pipeline.aws.draft import Draft
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.results import Built, Published
from pipeline.templates import template_hashes

RECORDED = {"image": ("build", "image_digest"), "model": ("publish", "manifest_sha256")}  # stage and key in a draft


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


def refuse_another(draft: Draft, what: str, found: str) -> None:
    """Raise UsageError when a release that tasks may run already would get another `image` or `model` (its digest).

    Before its task definition is registered nothing can run under its name, and it may still be corrected.
    """
    stage, key = RECORDED[what]
    recorded = (draft.content["results"].get(stage) or {}).get(key)
    if not draft.content.get("task_definition_arn") or recorded in (None, found):
        return
    raise UsageError(
        f"Release `{draft.release_id}` was begun with {what} {recorded}, and what would be shipped now is another: "
        f"{found or 'one that is not in AWS yet'}. One name stands for one thing.",
        f"leave `--release` out, or choose a new name; with the files as they were `{draft.resume_command}` goes on",
    )

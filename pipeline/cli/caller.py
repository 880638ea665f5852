"""Who runs this command, for locks and records."""

from __future__ import annotations

import getpass
import os
import platform


def who() -> str:
    """Who runs this, for lock and records: GitHub's actor, or user@host."""
    return os.environ.get("GITHUB_ACTOR") or f"{getpass.getuser()}@{platform.node()}"


def run_url() -> str:
    """The page of the GitHub Actions run, or "" elsewhere."""
    server, repository, number = (
        os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    )
    return f"{server}/{repository}/actions/runs/{number}" if number else ""

"""`python -m model_service`: exits 0 after a stop that was asked for, 1 if the model cannot be served, 2 for settings
that are wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from model_service.access_log import start_logging
from model_service.errors import StartRefused
from model_service.runtime.memory import share_arenas
from model_service.settings import read_settings, similar_variables

logger = logging.getLogger("model_service")


def main() -> int:
    """Run the service; the exit status."""
    start_logging(os.environ.get("RELEASE_ID", "local"), "info")
    try:
        settings = read_settings(os.environ)
    except StartRefused as error:
        logger.critical("%s", error)
        return 2
    start_logging(settings.release_id, settings.log_level)
    for words in similar_variables(os.environ):
        logger.warning("%s", words)
    share_arenas()
    import uvloop  # these after the settings: a wrong setting is told at once

    from model_service.lifecycle import run

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except StartRefused as error:
        logger.critical("the service cannot start: %s", error, exc_info=error.__cause__)
        return 1
    except Exception:
        logger.critical("the service ends by a fault of its own", exc_info=True)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: that would wait for worker threads, and a run that outlived its deadline would outlive the process.
    os._exit(status)

"""`python -m demo`: tell the story, print its summary, write build/demo/report.json. KEEP=1 leaves it running."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from demo import summary
from demo.story import Story, clean

DIRECTORY = Path("build/demo").resolve()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    started = time.monotonic()
    clean(DIRECTORY)
    story = Story(DIRECTORY, console)
    try:
        story.tell()
        report = summary.write_report(story, DIRECTORY / "report.json", time.monotonic() - started, _setup_s())
        summary.show(report, console)
    finally:
        if os.environ.get("KEEP") == "1":
            console.print(f"KEEP=1: the local AWS keeps running. cd {story.repository} and use it; then:")
            console.print("  onnxship rehearse down")
        else:
            story.close()
    return 0 if story.ok else 1


def _setup_s() -> float:
    """Seconds that the set-up of this environment took, as the set-up left them."""
    try:
        return float((Path(sys.prefix) / "setup_s").read_text())
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())

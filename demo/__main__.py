"""`python -m demo`: tell the story, print its summary, write build/demo/report.json. KEEP=1 leaves it running."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from demo import processes, summary
from demo.story import ROLLOUTS, Story

DIRECTORY = Path("build/demo").resolve()
USAGE = 2


def main() -> int:
    """Tell the story; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both, even where a shell started this in the background
        signal.signal(number, signal.default_int_handler)
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    try:
        with processes.only_one(DIRECTORY):
            return _tell(Story(DIRECTORY, console, arguments.engine, arguments.strategy), console)
    except processes.Busy as busy:
        console.print(f"{busy}\nFix: wait for its end, or end it with Ctrl-C where it runs", markup=False)
        return USAGE


def _tell(story: Story, console: Console) -> int:
    started = time.monotonic()
    _clean(console)
    try:
        story.tell()
        report = summary.write_report(story, DIRECTORY, time.monotonic() - started, _setup_s())
        summary.show(report, console)
    finally:
        if os.environ.get("KEEP") == "1":
            console.print(f"KEEP=1: the local AWS keeps running. cd {story.commands.directory} and use it; then:")
            console.print("  onnxship rehearse down")
            story.users.stop()
        else:
            story.close()
    return 0 if story.ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--engine", choices=("process", "docker"), default="process", help="what a task is")
    parser.add_argument("--strategy", choices=tuple(ROLLOUTS), default="BLUE_GREEN", help="how production moves")
    return parser.parse_args()


def _clean(console: Console) -> None:
    """Remove what an earlier demo left, ending its processes and its local AWS if these still run."""
    if left := processes.end_left_over(DIRECTORY / "children"):
        console.print(f"  An earlier demo was killed; {len(left)} of its processes still ran and were ended.")
    project = DIRECTORY / "digits"
    if (project / ".onnxship").exists() and (project / "onnxship.yaml").exists():
        command = [sys.executable, "-m", "pipeline", "rehearse", "down"]
        subprocess.run(command, cwd=project, check=False, capture_output=True)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)


def _setup_s() -> float:
    """Seconds that the set-up of this environment took, as the set-up left them."""
    try:
        return float((Path(sys.prefix) / "setup_s").read_text())
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())

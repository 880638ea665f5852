"""`python -m rehearsal up|down|status`: a local AWS in the foreground, its end, and whether it is there."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rehearsal import processes, state
from rehearsal.context import Settings
from rehearsal.ecs.engines import leftovers
from rehearsal.limits import ENGINES as LIMITS
from rehearsal.supervisor import ending_signals, run
from rehearsal.unusable import UNWRITABLE, Unusable, unwritable

DOWN_S = 45.0
USAGE = 2


def main(words: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    arguments = _parser().parse_args(words)
    return int(arguments.command(arguments))


def up(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP."""
    for number in ending_signals():
        signal.signal(number, lambda *_: sys.exit(0))  # until the supervisor's own loop hears them
    state_dir = arguments.state_dir.resolve()
    try:
        with state.claim(state_dir):
            _serve(arguments, state_dir)
    except Unusable as unusable:
        return _fail(unusable.what, unusable.remedy)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        refusal = unwritable(error, state_dir)
        return _fail(refusal.what, refusal.remedy)
    except Exception:
        logging.getLogger(__name__).exception("the rehearsal ended by an error")
        return _fail(f"The rehearsal ended by an error; {state_dir / state.LOG} has it.", "read the log", code=1)
    return 0


def _serve(arguments: argparse.Namespace, state_dir: Path) -> None:
    _log_to(state_dir / state.LOG)
    state.forget(state_dir)  # of a dead one, whose tasks the ECS part ends when it starts
    settings = Settings(arguments.account, arguments.region, state_dir, arguments.seconds_per_minute, arguments.engine)
    run(settings, arguments.reserve_port, arguments.assume)


def down(arguments: argparse.Namespace) -> int:
    """End the rehearsal of a directory, also one that is just starting, and whatever it left behind."""
    state_dir = arguments.state_dir.resolve()
    ended = _end(state_dir) if state_dir.is_dir() else False
    _say(f"The rehearsal of {state_dir} is down." if ended else f"No rehearsal runs for {state_dir}.")
    return 0


def _end(state_dir: Path) -> bool:
    """True when one ran. Whoever holds the directory is ended; then the directory is held while it is cleared."""
    ended = False
    while (lock := state.hold(state_dir)) is None:
        if holder := state.holder_of(state_dir):
            ended = processes.end(holder.pid, holder.started_at, DOWN_S) or ended
        else:
            time.sleep(0.05)  # another `down` clears, or the holder is about to say who it is
    with lock:
        leftovers.clear(state_dir)
        state.forget(state_dir)
    return ended


def status(arguments: argparse.Namespace) -> int:
    """Print what runs as JSON (exit 0), or that nothing does (exit 1)."""
    running = state.live(arguments.state_dir.resolve())
    if running is None:
        _say(f"No rehearsal runs for {arguments.state_dir.resolve()}.")
        return 1
    _say(json.dumps(asdict(running), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    commands = parser.add_subparsers(required=True)
    begin = commands.add_parser("up", help="serve until SIGTERM or SIGINT")
    begin.set_defaults(command=up)
    begin.add_argument("--account", required=True)
    begin.add_argument("--region", required=True)
    begin.add_argument("--seconds-per-minute", type=float, default=2.0, help="real seconds per AWS minute")
    begin.add_argument("--engine", choices=list(LIMITS), default="process", help="what a task is")
    begin.add_argument("--reserve-port", type=int, action="extend", nargs="+", default=[], help="keep for a listener")
    begin.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="settle what AWS's documents leave open"
    )
    end = commands.add_parser("down", help="end it, and what it left behind")
    end.set_defaults(command=down)
    look = commands.add_parser("status", help="is it there?")
    look.set_defaults(command=status)
    for command in (begin, end, look):
        command.add_argument("--state-dir", type=Path, required=True, help="where it keeps its files")
    return parser


def _fail(what: str, remedy: str, code: int = USAGE) -> int:
    sys.stderr.write(f"{what}\nFix: {remedy}\n")
    return code


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.raiseExceptions = False  # a line that the disk does not take is lost, and nothing else
    for chatty in ("werkzeug", "botocore", "boto3", "urllib3", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())

"""Make a virtual environment and install a lock file and this checkout into it: `setup.py VENV LOCK`.

Standard library only; says how long it took, and leaves the seconds in VENV/setup_s for the demo's report.
"""

import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)


def main(directory: str, lock: str) -> None:
    if sys.version_info < OLDEST:
        sys.exit(
            f"onnxship needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is {sys.version.split()[0]}.\n"
            "Fix: make demo PYTHON=python3.12"
        )
    started = time.monotonic()
    print(f"Setting up {directory} from {lock} (once; about two minutes) ...", file=sys.stderr)
    if not Path(directory, "bin", "python").exists():
        create(directory)
    # Each module is compiled when it is first imported: of most packages that is the smaller part.
    pip = [str(Path(directory, "bin", "python")), "-m", "pip", "--disable-pip-version-check"]
    pip += ["install", "--quiet", "--no-compile"]
    run([*pip, "--require-hashes", "--requirement", lock])
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."])
    seconds = time.monotonic() - started
    Path(directory, "setup_s").write_text(f"{seconds:.1f}\n")
    print(f"Set-up took {seconds:.0f} s.", file=sys.stderr)


def create(directory: str) -> None:
    try:
        venv.create(directory, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit(
            "This Python cannot make virtual environments (its `ensurepip` is missing).\n"
            "Fix: on Debian and Ubuntu: apt-get install python3-venv"
        )


def run(command: list[str]) -> None:
    ended = subprocess.run(command, check=False)
    if ended.returncode:
        sys.exit(f"`{' '.join(command)}` failed with exit code {ended.returncode}.\nFix: see the lines above.")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`python -m pipeline` is `onnxship`."""

import sys


def main() -> None:
    """Import the command and run it; Ctrl-C during the import ends it as quietly as later."""
    try:
        from pipeline.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()

"""`python -m pipeline` is `onnxship`."""

from pipeline.cli import main

main()

# The two commands are `make demo` and `make test`; each does all its own set-up. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for real processes rather than compute, so more workers than cores pay; a file stays on one worker.
WORKERS := --numprocesses 4 --dist loadfile

# Hundreds of short processes run these sources: their bytecode is kept, also where the caller's environment keeps none.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test stories lint bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

demo: $(VENV)/demo.ready  ## tell the whole story on this machine: ship, refuse what is bad, roll back, under load
	@$(BIN)/python -m demo $(DEMO)

test: $(VENV)/dev.ready  ## unit and contract tests and the short stories, under 10 minutes
	$(BIN)/python -m pytest -m "not long" $(WORKERS)

# Of these most compute all the while: a fourth worker makes each take longer.
stories: $(VENV)/dev.ready  ## every end-to-end story, under 30 minutes
	$(BIN)/python -m pytest -m "story or long" --numprocesses 3 --dist loadscope --no-loadscope-reorder --durations 25

bench: $(VENV)/bench.ready  ## measure the model server against ONNX Runtime itself and other servers, about 20 minutes
	@$(BIN)/python -m benchmarks $(BENCH)

lint: $(VENV)/dev.ready  ## everything that reads the code without running it
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:  ## remove what the other commands made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(VENV)/demo.ready: requirements/demo.lock pyproject.toml
	@$(PYTHON) requirements/setup.py $(VENV) requirements/demo.lock
	@touch $@

$(VENV)/bench.ready: requirements/bench.lock pyproject.toml
	@$(PYTHON) requirements/setup.py $(VENV) requirements/bench.lock
	@touch $@

$(VENV)/dev.ready: requirements/dev.lock pyproject.toml
	@$(PYTHON) requirements/setup.py $(VENV) requirements/dev.lock
	@touch $@ $(VENV)/demo.ready $(VENV)/bench.ready

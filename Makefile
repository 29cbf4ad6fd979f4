PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= Tell me a story about a robot who learns to paint
SCHEMA := {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 1, "maximum": 20}}, \
	"required": ["name", "age"], "additionalProperties": false}
PYTEST_OPTIONS ?=
# The tests of one file run in one worker, so that what they share is made once.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
# The tests start hundreds of processes, each of which would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test lint bench load soak readme clean

help:
	@echo "make run    the bundled model in this terminal: a story, JSON, calls of tools"
	@echo "make test   install what the tests need, and run them all"
	@echo "make lint   formatting, lint, types, import rules"
	@echo "make bench  the benchmarks, as ratios measured side by side"
	@echo "make load   500 clients of the server at once, for 30 s"
	@echo "make soak   three servers on one Redis for 10 minutes, while things fail"
	@echo "make readme write the generated sections of the READMEs"

run: $(VENV)/.installed-base
	@$(BIN)/rxllm run "$(PROMPT)"
	@echo && echo "An answer that follows a JSON Schema:"
	@$(BIN)/rxllm run "Give me a JSON record of a cat named Mia" --schema '$(SCHEMA)' --temperature 0
	@echo && echo "Calls of tools:"
	@$(BIN)/python examples/39_tools.py
	@echo "To try it in a browser: $(BIN)/rxllm serve"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_OPTIONS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks

load: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks.load

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.redis.soak

readme: $(VENV)/.installed-dev
	$(BIN)/python -m tests.readme_sections

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-base: pyproject.toml | $(BIN)/python
	@echo "installing rxllm into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# llama-cpp-python compiles C++ for some minutes. Where it can't, its tests are skipped, and say so.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[llama]' \
		'llama-cpp-python[server]' \
		|| test -z "$$RXLLM_REQUIRE"
	@touch $@ $(VENV)/.installed-base

# Every target sets up what it needs by itself: uv where it is installed, else venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS := 1-100
HOURS := 0.5
MINUTES := 0
BACKEND := tart
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help

.PHONY: help demo run test check docs simulate format bench lock clean

help: ## Say what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/run ## Watch the main job end to end on a simulated Mac and a simulated GitHub
	$(BIN)/cidermill demo --backend $(BACKEND)

run: $(VENV)/run ## Run the service from .env and cidermill.toml
	$(BIN)/cidermill serve

test: $(VENV)/dev ## Run the tests, on every core
	$(BIN)/python -m pytest -q -n auto --dist worksteal

check: $(VENV)/dev ## Format, lint, types, import layers, scripts, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck --severity=style $$(git ls-files '*.sh' .ci/run)
	$(BIN)/hadolint Dockerfile.tunnel
	$(BIN)/python -m pytest -q tests/test_docs.py
	$(MAKE) docs

docs: $(VENV)/dev ## Build the site into site/; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

simulate: $(VENV)/dev ## Storms on virtual time: SEEDS=1-1000 HOURS=0.5 MINUTES=5
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --hours $(HOURS) --minutes $(MINUTES)

format: $(VENV)/dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev ## Measure the targets of docs/design.md; the report says on what machine
	$(BIN)/python -m benchmarks

lock: $(VENV)/dev ## Resolve the dependencies anew into requirements*.txt
	./scripts/lock

clean: ## Remove what the other targets made
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/run: requirements.txt pyproject.toml
	PYTHON=$(PYTHON) ./scripts/install $(VENV) requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt pyproject.toml
	PYTHON=$(PYTHON) ./scripts/install $(VENV) requirements-dev.txt
	touch $(VENV)/run $@

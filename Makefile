# Each target installs what it lacks and says so; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help run test check bench faults reset lock messages conformance screenshots install ready
SHELL := /bin/sh
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -q
# Two worker processes, whatever the machine: the suite starts real servers, and CI has two cores.
PARALLEL := -n 2 --dist loadfile
DEMO_PORT ?= 8000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# make itself becomes the supervisor, so that its signals and its status are the supervisor's (docs/adr/0010).
# Not for a dry run, nor when make has other goals to come back to: there the supervisor is make's child.
SUPERVISE = exec $(PY) -m deploy.demo.run --port "$(DEMO_PORT)"
ifeq ($(MAKECMDGOALS)$(findstring n,$(firstword -$(MAKEFLAGS))),run)
-load .venv/become.so
.venv/become.so: deploy/become.c
	@deploy/bootstrap run
	@cc=$$(command -v cc || command -v gcc || command -v tcc) || exit 0; \
	$$cc -shared -fPIC -nostdlib -o $@ $< 2>/dev/null || true
BECOME = $(become $(SUPERVISE))
endif

# A recipe is expanded whole before its first line runs: what must be there before comes as a prerequisite.
run: ready ## the service, a real sample directory and two demonstration applications, in the foreground
	@$(BECOME)
	@$(SUPERVISE)

ready:
	@deploy/bootstrap run
	@$(MAKE) --no-print-directory messages

test: ## everything: check, then the whole service on SQLite and on PostgreSQL, with real servers and a browser
	@deploy/bootstrap test
	@$(MAKE) --no-print-directory check
	@echo "== the suite on SQLite" && $(PYTEST) $(PARALLEL) tests --database sqlite --ignore tests/unit --ignore tests/meta
	@echo "== the suite on PostgreSQL" && $(PYTEST) $(PARALLEL) tests/app tests/spec --database postgresql

check: ## the fast half: style, types, architecture, Django's checks, missing migrations, unit tests
	@deploy/bootstrap check
	@$(MAKE) --no-print-directory messages
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PY) -m deploy.environment offline .venv/bin/mypy iam directory mfa deploy/resource_server/*.py
	.venv/bin/lint-imports
	$(PY) -m deploy.environment production $(PY) manage.py check --fail-level WARNING
	$(PY) -m deploy.environment production $(PY) manage.py check --deploy --fail-level WARNING
	$(PY) -m deploy.environment offline $(PY) manage.py makemigrations --check --dry-run
	$(PYTEST) $(PARALLEL) tests/unit tests/meta

bench: ## figures beside this machine's raw limits
	@deploy/bootstrap test
	@$(MAKE) --no-print-directory messages
	@$(PY) -m tests.bench
	@$(PY) -m tests.bench.directory

conformance: ## docs/conformance.md, from the catalogue of rules and the marks of the tests
	@$(PY) -m tests.conformance

faults: ## what happens when parts break
	@deploy/bootstrap test
	@$(MAKE) --no-print-directory messages
	$(PYTEST) tests/app/directory/test_outages.py tests/app/directory/test_servers.py tests/app/directory/test_faults.py tests/app/mfa/test_races.py tests/app/oauth/test_races.py tests/app/oauth/test_deliverers.py
	@echo "== a thousand races of an issue with a revocation, and a thousand looks of another worker; on both databases"
	IAM_TEST_TRIALS=1000 $(PYTEST) -s tests/app/oauth/test_races.py tests/spec/test_memory.py -k "f17 or revocation" --database sqlite
	IAM_TEST_TRIALS=1000 $(PYTEST) -s tests/app/oauth/test_races.py tests/spec/test_memory.py -k "f17 or revocation" --database postgresql
	@echo "== one rule taken out at a time: each must be missed by its test"
	$(PY) -m tests.mutation

reset: ## empty var/ (refused while the demonstration runs)
	@python3 deploy/demo/reset.py

messages: ## compile the translations that changed
	@$(PY) -m deploy.messages

screenshots: ## pictures of every page in three languages, two widths, light and dark, in var/screenshots (beside `make run`)
	@deploy/bootstrap test
	@$(PY) -m tests.journeys.screenshots

lock: ## compile the lock files from pyproject.toml
	@deploy/bootstrap check
	.venv/bin/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras -o requirements.txt pyproject.toml
	.venv/bin/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras --allow-unsafe --extra demo --extra dev -o tests/requirements.txt pyproject.toml

install: ## install what every target needs, and nothing else
	@deploy/bootstrap test

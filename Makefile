# Pegboard. `make help` names the verbs. Everything is installed into the clone: .tools/ (uv) and .venv/.

UV_VERSION := 0.13.9
UV := .tools/bin/uv
IN := .venv/bin/

# The Python that uv comes with and is told of: python3.11 where there is one, else a python3 that is new enough.
# Not the clone's own: in a terminal that has that first it would be found, and it has no pip.
PYTHON := $(shell PATH="$$(printf %s "$$PATH" | sed 's|$(CURDIR)/.venv/bin:||g')"; for name in python3.11 python3; do \
	path=$$(command -v $$name) && $$path -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$path && break; done)

export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
# Tests start hundreds of processes: where a shell forbids it, each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up install debian check test test-servers test-heavy explore attacks bench docs clean

help:  ## name the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

up: install  ## run Pegboard in the foreground and show the demo (options: make up UP="--no-story"); Ctrl-C ends it
	@exec $(IN)pegboard up --die-with-parent $(UP)

install: .venv/.installed  ## install what the lock file says

check: install  ## lint, format, types, direction of imports
	$(IN)ruff check .
	$(IN)ruff format --check .
	$(IN)mypy
	$(IN)lint-imports

# Programs that tests use and no wheel brings. A test whose program is missing is skipped and names it.
DEBIAN := bubblewrap chromium prometheus
PROGRAMS := bwrap chromium promtool

debian:  # as root on Debian they are installed; elsewhere that is said, and left to you
	@missing=; for program in $(PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	test -z "$$missing" && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then echo "Installing $(DEBIAN) for the tests"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(DEBIAN) \
			>/dev/null 2>&1 && exit 0; fi; \
	echo "Not here:$$missing. Tests that need them are skipped. On Debian: sudo apt-get install $(DEBIAN)"

# Twice the two cores that CI has: half of a worker's time it waits for processes that its tests started.
WORKERS := 4
# Of the long tests several start hubs, edges and builds at once, and some watch how fast things go.
HEAVY_WORKERS := 2

test: install debian  ## everything that must hold before a change goes in
	@$(MAKE) --no-print-directory -j2 --output-sync=target check test-servers
	$(IN)pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -m "not heavy"

SERVERS := $(wildcard servers/*/)

test-servers: $(SERVERS:%=%.venv/.installed)  # each server is a project of its own, with its own lock file
	@set -e; for server in $(SERVERS); do echo "== $$server"; \
		(cd $$server && ../../$(UV) run --no-sync --quiet pytest -q); done

# A server locks the kit from the index of an instance, as any author's project does. Here no instance need run: all that
# is locked is installed but the kit, and in its place this clone's.
servers/%/.venv/.installed: servers/%/uv.lock servers/%/pyproject.toml kit/pyproject.toml $(UV)
	@echo "Installing what servers/$* needs"
	@cd servers/$* && ../../$(UV) sync --quiet --frozen --no-install-package pegboard
	@cd servers/$* && ../../$(UV) pip install --quiet --python .venv --no-deps --editable ../../kit
	@touch $@

test-heavy: install debian  ## the long tests, each by its name and with its time
	$(IN)pytest -n $(HEAVY_WORKERS) --dist loadgroup --no-loadscope-reorder -m heavy -v --durations=0 --durations-min=1

explore: install  ## look for new examples against every property and model, for as long as you let it
	@while HYPOTHESIS_PROFILE=explore $(IN)pytest -n $(WORKERS) -q -m "not heavy" \
		$$(grep -rlE "@given|RuleBasedStateMachine" tests --include='test_*.py'); do :; done

attacks: install  ## run the catalogue of attacks, or try it on your own instance (URL= SERVER= TOKEN=file)
	@$(IN)python -m tests.attacks.catalogue $(if $(URL),--url $(URL)) $(if $(SERVER),--server $(SERVER)) $(if $(TOKEN),--token $(TOKEN))

bench: install  ## make the figures in the docs again
	@set -e; for script in cost edge memory first_call sign_in; do echo "== $$script"; $(IN)python bench/$$script.py --save; done
	@set -e; for script in ledger metrics change recovery key_rotation report; do echo "== $$script"; $(IN)python bench/$$script.py; done

docs: install  ## make the reference pages again from the code
	@$(IN)python -m docs.generate

clean:  ## remove what was installed and cached; the state in .pegboard stays
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache servers/*/.venv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: uv.lock pyproject.toml kit/pyproject.toml hub/pyproject.toml $(UV)
	@echo "Installing Pegboard's packages into .venv"
	@test -d .venv || $(UV) venv --quiet --python "$(PYTHON)" .venv
	@$(UV) sync --frozen --compile-bytecode
	@touch $@

$(UV): Makefile
	@test -n "$(PYTHON)" || { echo "Pegboard needs Python 3.11 or newer: apt-get install python3"; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "$(PYTHON) has no pip: apt-get install python3-pip"; exit 1; }
	@echo "Installing uv $(UV_VERSION) into .tools"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade --target .tools uv==$(UV_VERSION)
	@touch $@

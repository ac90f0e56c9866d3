# hongyan: `make help` lists the targets. Needs GNU make, a POSIX shell and Python >= 3.11; everything else is
# set up here, again only when a lock file under requirements/ changes. ARGS="…" goes to the program behind a target.

.ONESHELL:
.SHELLFLAGS = -euc
.DEFAULT_GOAL = help
.PHONY: help run test check format bench lock clean

PY = .venv/bin/python
PIP = $(PY) -m pip --disable-pip-version-check --no-input
# Wheels only: building from source would fetch build tools that no lock file names.
INSTALL = $(PIP) install --require-hashes --only-binary=:all:

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

run: .venv/.run ## Set up, start everything with a demo tenant and a simulated operator, stop with Ctrl-C
	@exec $(PY) -m hongyan run --demo $(ARGS)

test: .venv/.dev ## Set up and run all tests on two cores
	@exec $(PY) -m pytest -n 2 $(ARGS)

check: .venv/.dev ## Check format, lint and types
	@$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: .venv/.dev ## Format the code and mend what the linter can mend
	@$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: .venv/.dev ## Run the benchmarks
	@exec $(PY) -m bench $(ARGS)

lock: .venv/.dev ## Lock the newest allowed versions, with hashes, under requirements/
	@$(PIP) install --quiet --target .venv/lock-tool --upgrade uv
	compile() { .venv/lock-tool/bin/uv pip compile pyproject.toml --python $(PY) --python-version 3.11 --universal \
	    --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet "$$@" > /dev/null; }
	compile --output-file requirements/run.txt
	compile --group dev --output-file requirements/dev.txt

clean: ## Remove the virtual environment and caches; the state folder stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.run: requirements/run.txt | .venv/.made
	@echo "hongyan: installing what it runs on (about 50 packages, a minute or so) …"
	$(INSTALL) -r requirements/run.txt
	touch $@

.venv/.dev: requirements/dev.txt requirements/run.txt | .venv/.made
	@echo "hongyan: installing what it runs on and is tested with (about 80 packages, a minute or two) …"
	$(INSTALL) -r requirements/dev.txt
	touch .venv/.run $@

# The project itself is one line in a .pth file, relative so that the folder may be moved: nothing to build.
.venv/.made:
	@python=
	for each in python3.13 python3.12 python3.11 python3 python; do
	    if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$each; break; fi
	done
	if [ -z "$$python" ]; then
	    echo "hongyan needs Python 3.11 or newer, and no python3.13, python3.12, python3.11 or python3 here is one." >&2
	    exit 1
	fi
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	echo "hongyan: making .venv with Python $$version …"
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
	    if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
	        echo "hongyan: this Python comes without venv: installing python$$version-venv …"
	        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "python$$version-venv"
	    elif command -v virtualenv > /dev/null; then
	        virtualenv --quiet --python "$$python" .venv
	    else
	        echo "hongyan: this Python comes without venv. On Debian or Ubuntu:" >&2
	        echo "    sudo apt-get install python$$version-venv" >&2
	        echo "elsewhere install your system's venv or virtualenv package; then make again." >&2
	        exit 1
	    fi
	fi
	[ -x .venv/bin/pip ] || "$$python" -m venv .venv
	site=$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	$(PY) -c 'import os, sys; print(os.path.relpath("src", sys.argv[1]))' "$$site" > "$$site/hongyan.pth"
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m hongyan "$$@"\n' > .venv/bin/hongyan
	chmod +x .venv/bin/hongyan
	touch $@

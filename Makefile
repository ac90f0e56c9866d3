# hongyan: `make help` lists the targets. Needs GNU make, a POSIX shell and Python >= 3.11; everything else is
# set up here, again only when a lock file under requirements/ changes. ARGS="…" goes to the program behind a target.

.ONESHELL:
.SHELLFLAGS = -euc
.DEFAULT_GOAL = help
# Some images set it: then every start of every process compiles the whole program anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run test check format console wheel bench lock clean

PY = .venv/bin/python
PIP = $(PY) -m pip --disable-pip-version-check --no-input
# Wheels only: building from source would fetch build tools that no lock file names.
INSTALL = $(PIP) install --require-hashes --only-binary=:all:
# The machine's Node.js if it is new enough, else the one that .venv/.node put beside our Python.
NPM = PATH="$(CURDIR)/.venv/node:$$PATH" npm --prefix console
TYPED = console/src/api/schema.d.ts
# Of several interpreters the fastest: some are built without optimization, and take half as long again for everything.
export WHERE = import os, sys; sys.version_info < (3, 11) and sys.exit(1); print(os.path.realpath(sys.executable))
export HOW_FAST = import timeit; \
	print(int(1e6 * min(timeit.repeat("sum(f(n) for n in range(2000) if n % 3)", "f = lambda n: n * 3 if n else [n]", number=20, repeat=7))))
define NEWLINE


endef

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

# Without the console everything else runs: who cannot reach the npm registry is told, and goes on.
run: .venv/.run ## Set up, start everything with a demo tenant and a simulated operator, stop with Ctrl-C
	@$(MAKE) -s console || echo "hongyan: the console could not be built (above); going on without it"
	exec $(PY) -m hongyan run --demo $(ARGS)

# More workers than cores: most tests wait as long as they compute. Who runs what: tests/spread.py.
test: .venv/.dev .venv/.console ## Set up and run all tests on two cores
	@exec $(PY) -m pytest -n 4 $(ARGS)

check: .venv/.dev $(TYPED) ## Check format, lint and types
	@$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(NPM) run --silent check

format: .venv/.dev .venv/.npm ## Format the code and mend what the linter can mend
	@$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
	$(NPM) run --silent format

console: .venv/.console ## Build the console's pages into the program

wheel: .venv/.dev .venv/.console ## Build the wheel, with the console's pages, into dist/
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	ls dist

bench: .venv/.dev ## Run the benchmarks
	@exec $(PY) -m bench $(ARGS)

lock: .venv/.dev ## Lock the newest allowed versions, with hashes, under requirements/
	@$(PIP) install --quiet --target .venv/lock-tool --upgrade uv
	compile() { .venv/lock-tool/bin/uv pip compile pyproject.toml --python $(PY) --python-version 3.11 --universal \
	    --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet "$$@" > /dev/null; }
	compile --output-file requirements/run.txt
	compile --group dev --output-file requirements/dev.txt
	.venv/lock-tool/bin/uv pip compile --group node --python $(PY) --python-version 3.11 --universal --upgrade \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements/node.txt > /dev/null

clean: ## Remove the virtual environment and caches; the state folder stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build console/node_modules src/hongyan/console
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
	@found= # Those that come with venv first.
	for want in 'import ensurepip, venv' ''; do
	    [ -z "$$found" ] || break
	    found=$$(for each in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3 python; do
	        "$$each" -c "$$want$(NEWLINE)$$WHERE" 2>/dev/null || true
	    done | sort -u)
	done
	python=$$found
	IFS='$(NEWLINE)'
	# Who wins most rounds, not who was fastest once: a machine may be half as fast for a second.
	if [ "$$(echo "$$found" | wc -l)" -gt 1 ]; then
	    echo "hongyan: looking for the fastest Python here …"
	    python=$$(for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	        for each in $$found; do
	            took=$$("$$each" -c "$$HOW_FAST") && echo "$$took $$each" || true
	        done | sort -n | sed -n '1s/^[0-9]* //p'
	    done | sort | uniq -c | sort -rn | sed -n '1s/^ *[0-9]* //p')
	fi
	if [ -z "$$python" ]; then
	    echo "hongyan needs Python 3.11 or newer, and no python3.14, python3.13, python3.12, python3.11 or python3 here is one." >&2
	    exit 1
	fi
	if ! "$$python" -c 'import platform, sys; sys.exit(platform.libc_ver()[0] != "glibc")'; then
	    echo "hongyan needs a Linux with glibc: what it is built on has no wheels for another C library (Alpine's musl, for one)." >&2
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

# npm looks for node along PATH; .venv/node holds nothing where the machine's own does.
.venv/.node: requirements/node.txt | .venv/.made
	@mkdir -p .venv/node
	if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null \
	    || ! command -v npm > /dev/null; then
	    echo "hongyan: no Node.js >= 20.19 here: installing the one from PyPI, for building the console …"
	    $(INSTALL) -r requirements/node.txt
	    for each in node npm npx; do ln -sf "../bin/$$each" ".venv/node/$$each"; done
	fi
	touch $@

.venv/.npm: console/package-lock.json | .venv/.node
	@echo "hongyan: installing what the console is built with (about 150 packages, half a minute) …"
	$(NPM) ci --no-progress --loglevel=error
	touch $@

# Types are made anew only when the API became another: openapi.json keeps its age where nothing changed.
.venv/.described: $(shell find src/hongyan -name '*.py') | .venv/.run
	@$(PY) -c 'import msgspec; from hongyan.doors import http, openapi; print(msgspec.json.encode(openapi.document(http.VERSION)).decode())' > console/openapi.new
	if cmp -s console/openapi.new console/openapi.json; then rm console/openapi.new; else mv console/openapi.new console/openapi.json; fi
	touch $@

console/openapi.json: .venv/.described ;

$(TYPED): console/openapi.json console/scripts/types.mjs .venv/.npm
	@$(NPM) run --silent types

.venv/.console: $(TYPED) .venv/.npm $(shell find console -path console/node_modules -prune -o -type f ! -name openapi.new -newer .venv/.console -print 2>/dev/null)
	@echo "hongyan: building the console …"
	$(NPM) run --silent build -- --logLevel warn
	touch $@

# SPDX-License-Identifier: Apache-2.0
# privcmdd: `make demo` shows it, `make test` proves it. Everything needed is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest -q
# A file of tests stays with one process: what its fixtures build is built once.
BOTH := -n auto --dist loadfile
PROFILE ?= default
SEEDS ?= 200

.DEFAULT_GOAL := help
.PHONY: help demo test check packages shim lint types imports generated unit sim container mutants survivors fuzz bench generate history model-check coverage lock image install zig wheel site links manuals news pictures clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

$(READY): pyproject.toml requirements/dev.txt .ci/setup
	@.ci/setup $(PYTHON)
	@touch $@

demo: $(READY) ## run the main job: a broker, a guest, device models, each step checked
	@$(BIN)/privcmdctl demo

test: $(READY) packages shim ## every test; PROFILE=long makes 10^5 steps of the state machine
	PRIVCMDD_PROFILE=$(PROFILE) $(PYTEST) $(BOTH) -rs

check: lint types imports generated unit ## the gate, two minutes: lint, types, imports, generated files, the quick tests

lint: $(READY) ## ruff; for C clang-format, both compilers and cppcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard $(addsuffix /*.[ch],bench clients/c clients/c/* config/* tests/* tests/clients/c))
	$(MAKE) -s --no-print-directory -C clients/c lint

types: $(READY) ## mypy, strict; pyright, whether all that privcmd exports has a declared type
	$(BIN)/mypy
	PYTHONPATH=clients/python $(BIN)/basedpyright --pythonpath $(BIN)/python --verifytypes privcmd --ignoreexternal

imports: $(READY) ## imports go down only
	$(BIN)/lint-imports

generated: $(READY) ## generated files are what their sources make
	$(BIN)/python clients/protocol/generate.py --check
	$(BIN)/python docs/tables.py --check

unit: $(READY) shim ## the quick tests: without the container and what takes long
	$(PYTEST) $(BOTH) -m "not container and not thorough"

container: $(READY) packages ## build the image and run it
	$(PYTEST) -m container -rs

.PHONY: fresh
fresh: ## the README's first commands in bare roots of Debian, as root and as a user; ARGS='--suites trixie --only demo'
	$(PYTHON) tests/fresh/newcomer.py $(ARGS)

mutants: $(READY) shim ## plant real bugs, one at a time; the tests must notice each
	$(BIN)/python tests/mutants/run.py

survivors: $(READY) shim ## plant random bugs in FILE=, a file or folder, and list those that tests let live; N=50 SEED=1
	$(BIN)/python tests/mutants/survivors.py $(FILE) -n $(or $(N),50) --seed $(or $(SEED),1) $(ARGS)

fuzz: $(READY) ## fuzz the wire, hypercalls, the C codec and what the shim reads, SECONDS=60 each, from tests/fuzz/corpus on
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/fuzz.txt
	$(BIN)/python tests/fuzz/run.py --seconds $(or $(SECONDS),60) $(ARGS)

sim: $(READY) ## simulate whole brokers: SEEDS=1000, or SEEDS=A:B
	cd tests && ../$(BIN)/python -m sim --seeds $(SEEDS)

bench: $(READY) ## measure, and record in bench/README.md
	$(BIN)/python bench/run.py

model-check: $(READY) packages ## the protocol of replacement, searched exhaustively by Spin
	$(BIN)/python tests/replacement/check.py

packages: ## Debian packages that tests run unmodified programs of, where they can be installed
	@.ci/packages

shim: ## the C client and the preload library
	$(MAKE) -C clients/c

install: ## put the C parts below PREFIX=/usr/local, with pkg-config files; DESTDIR= for packages
	@$(MAKE) -s --no-print-directory -C clients/c install $(if $(PREFIX),PREFIX=$(PREFIX)) $(if $(DESTDIR),DESTDIR=$(DESTDIR))

zig: $(READY) ## the C compiler of what is published, into .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/release.txt

wheel: zig ## the wheels and sdists of privcmdd and privcmdd-client into dist, for glibc 2.17 and later
	@.ci/wheel $(BIN)/python

generate: $(READY) ## make the generated files anew
	$(BIN)/python clients/protocol/generate.py
	$(BIN)/python docs/tables.py

# Per cent, lines and branches together: a whole one below what docs/explanation/evidence.md states.
COVERED := model:97 wire:98 service:95

coverage: $(READY) shim ## measure which lines and branches of model, wire and service their tests run; minutes
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q tests/model tests/wire tests/service tests/sim
	$(BIN)/coverage combine -q
	@for floor in $(COVERED); do echo "$${floor%:*}, at least $${floor#*:} %:"; $(BIN)/coverage report --skip-covered \
		--include="broker/privcmdd/$${floor%:*}/*" --fail-under="$${floor#*:}" || exit 1; done

image: $(READY) ## build the container image, labelled, its base pinned by digest; ENGINE="docker", TAG=
	@.ci/image $(or $(TAG),privcmdd)

lock: $(READY) ## pin anew what the image, .venv and CI install (requirements); LOCK=--upgrade takes newer versions
	@.ci/lock $(BIN)/python $(LOCK)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@touch $(READY)

SITE := build/site
SPHINX := $(BIN)/sphinx-build -q -n -W --keep-going -c docs/site -d $(SITE)/.doctrees .

site: $(READY) ## the documentation as a site, build/site/index.html; each link and each doctest of it is tried
	$(SPHINX) $(SITE)
	$(SPHINX) -b doctest $(SITE)/.doctest
	$(BIN)/python docs/site/links.py $(SITE)

links: $(READY) ## try the links of the pages to other sites, which needs the network
	$(SPHINX) -b linkcheck build/links

manuals: $(READY) ## man pages and completion for bash, zsh and fish, from the parsers, below PREFIX=build/manuals
	$(BIN)/python docs/commands.py $(or $(PREFIX),build/manuals)

news: $(READY) ## what the changelog of the next release will say, from changelog.d
	@$(BIN)/towncrier build --draft --version next 2>/dev/null

pictures: $(READY) ## run the demo, and draw the picture of the README anew from what it prints
	$(BIN)/python docs/pictures.py

history: $(READY) ## check a recorded history, FILE=its name; or many random ones
	cd tests && ../$(BIN)/python -m history $(if $(FILE),$(abspath $(FILE)),--seeds 0:2000 --simulated 0:400)

clean: ## forget what was installed and cached
	rm -rf .venv .nox .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist

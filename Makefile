# Every command of the project. `make` lists them; what they prepare and print
# is decided in tests/machine, tests/lab and the tools' own configuration.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Each worker would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian's own: the bindings that only Debian has are built for this one.
python := /usr/bin/python3
venv := .venv/bin
sources := $(wildcard node aggregator tests hooks/hooking.py image-build/imagebuild)
imagebuild := PYTHONPATH=image-build $(venv)/python -m imagebuild

# Workers of pytest-xdist, for two processors: unit tests wait for threads, the others
# for daemons, guests and dates. In the lab any worker takes any test, when it has ended
# its last but one; among the others the tests of a file share what is expensive.
workers_fast := 4
workers_real := 4
workers_lab := 4

# $(call phase,title,command): print the title, run, print the outcome and time.
define phase
	@begin=$$SECONDS; status=0; \
	printf '\n== %s\n' '$(1)'; \
	( $(2) ) || status=$$?; \
	if [ $$status -eq 0 ]; then outcome=passed; else outcome="FAILED ($$status)"; fi; \
	printf '== %s: %s, %d s\n' '$(1)' "$$outcome" $$((SECONDS - begin)); \
	exit $$status
endef

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: machine-demo ## start a small fleet on this machine and say where to look (root)
	$(venv)/python -m tests.lab.demo up

.PHONY: demo-down
demo-down: ## stop the fleet of `make demo` and leave nothing of it behind (root)
	$(venv)/python -m tests.lab.demo down

.PHONY: test
test: machine-test ## everything that CI checks (root)
	@$(MAKE) lint
	@$(MAKE) test-fast
	@$(MAKE) test-real
	@$(MAKE) test-lab
	@$(MAKE) image
	@$(MAKE) test-boot

.PHONY: test-fast
test-fast: .venv/made-of ## unit tests, contracts on the fakes, architecture: no root, no daemon
	$(call phase,fast tests,$(venv)/pytest -q -n $(workers_fast) --dist worksteal \
		-o tmp_path_retention_policy=failed -m 'not real and not host and not database and not lab' \
		$(wildcard tests/unit tests/contract tests/architecture))

.PHONY: test-real
test-real: .venv/made-of ## contracts on the real things, PostgreSQL too; all crash points (root)
	$(call phase,contracts on the real things,$(venv)/pytest -q -n $(workers_real) \
		--dist loadfile -m 'real or database' tests/contract tests/unit/node)

.PHONY: test-lab
test-lab: .venv/made-of ## several real hosts on this machine (root)
	$(call phase,lab tests,$(venv)/pytest -q -n $(workers_lab) --dist load --maxschedchunk 1 tests/lab)

.PHONY: test-nfs
test-nfs: machine-test ## all checks of storage on kernel NFS and after power cuts, in VMs: an hour (root)
	$(call phase,kernel NFS,SKERRY_ALL_NFS=1 $(venv)/pytest -q tests/lab/throwaway)

.PHONY: test-boot
test-boot: .venv/made-of ## boot the image that `make image` built: CD on BIOS, USB on UEFI (root)
	$(call phase,boots,$(venv)/pytest -q -rP tests/image)

.PHONY: test-image
test-image: image ## boot the image every way, and build it twice (root)
	$(call phase,all boots,SKERRY_ALL_BOOTS=1 $(venv)/pytest -q -rP tests/image)

.PHONY: image
image: machine-image ## build the node image, build/image/skerry-*.img (root)
	$(call phase,image,$(imagebuild) build)

.PHONY: image-lock
image-lock: machine-image ## take the newest versions of the image's packages (root)
	$(imagebuild) lock

.PHONY: lint
lint: .venv/made-of ## ruff, mypy --strict, and the architecture's rules
	$(call phase,ruff,$(venv)/ruff check . && $(venv)/ruff format --check .)
	$(call phase,mypy,$(venv)/mypy $(sources))
	$(call phase,architecture,$(venv)/pytest -q tests/architecture)

.PHONY: format
format: .venv/made-of ## format the code and mend what ruff can mend
	$(venv)/ruff check --fix .
	$(venv)/ruff format .

.PHONY: bench
bench: machine-test ## measure against the numbers that we promise (root)
	$(venv)/python -m tests.scale.bench

.PHONY: soak
soak: machine-test ## break a running fleet at random for a while and check it (root)
	$(venv)/python -m tests.lab.soak
	$(venv)/python -m tests.lab.soak_pool

.PHONY: venv
venv: machine-venv ## make .venv, what the other commands run in

.PHONY: browser
browser: machine-browser ## fetch the dashboard's browser libraries

.PHONY: clean
clean: ## remove everything that was made, .venv too; packages stay
	rm -rf build dist .venv skerry.egg-info aggregator/dashboard/static/vendor
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Prepare the machine for a purpose: packages, .venv, browser libraries.
machine-%: $(python)
	@$(python) -m tests.machine $*

$(python):
	@echo 'Python is missing: installing python3.'
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3

.venv/made-of:
	@echo 'There is no .venv yet, or making it was interrupted: run `make venv`.' >&2
	@exit 1

# One machine, one command: `make run` on a clean clone ends in a pushed model.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev run test lint docs lock audit licences image clean

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

UV_VERSION := 0.13.8
UV := .cache/uv/bin/uv
# Prints the first Python 3.11 among $PYTHON, python3.11, python3 and python; TFX 1.21's kfp extra needs that one.
FIND_PYTHON := for candidate in "$${PYTHON:-}" python3.11 python3 python; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
			echo "$$candidate"; exit; fi; done; \
	echo "No Python 3.11 found: install it (apt install python3.11-venv, or pyenv install 3.11)," \
		"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1
export PYTHON ?=

LOCK_cpu := requirements/cpu.lock
LOCK_gpu := requirements/gpu.lock
STAMP_cpu := $(VENV)/installed.sha256
STAMP_gpu := $(VENV)/installed-gpu.sha256
# There from an installation's first moment, so that one that broke off is not gone on with for the CPU.
FOR_GPU := $(VENV)/for-gpu
# In the environment it is somebody else's.
ifneq ($(origin TARGET),command line)
TARGET :=
endif
# Where TARGET does not say what for, .venv stays what it was made for, at first the CPU; an image is for the CPU.
MADE_FOR := $(or $(TARGET),$(if $(wildcard $(FOR_GPU)),gpu,cpu))
IMAGE_FOR := $(or $(TARGET),cpu)
STAMP := $(or $(STAMP_$(MADE_FOR)),$(error TARGET=$(TARGET): there are cpu and gpu))
# TensorFlow 2.21's wheel looks for cuSOLVER everywhere but where its package lies, and then uses no GPU at all
# (tensorflow/tensorflow#112973); cuSPARSE's folder is among those.
LINK_CUSOLVER := ln -sf ../../cusolver/lib/libcusolver.so.11 $(VENV)/lib/python3.11/site-packages/nvidia/cusparse/lib/
# Installs a lock into an environment: $(call INSTALL,ENVIRONMENT,LOCK). pip compiles one file after the other, which is
# half of its work; what does not compile, such as a template, is nobody's fault here.
INSTALL = $(1)/bin/python -m pip install --quiet --no-compile --no-deps --require-hashes -r $(2); \
	$(1)/bin/python -m compileall -qq -j 0 $(1)/lib || true
# What looks at packages; it is in no environment that it looks at.
TOOLS := .cache/tools
# Prints how old each lock is, which is when it was committed; nothing where nobody can say, as without a history.
LOCK_AGES := now="$$(date +%s)"; for lock in requirements/*.lock; do \
		then="$$(git log -1 --format=%ct -- "$$lock" 2> /dev/null || true)"; \
		if [ -n "$$then" ]; then \
			echo "$$lock is of $$(date -d "@$$then" +%F), $$(( (now - then) / 86400 )) days old"; fi; done

IMAGE ?= tfx-image-segmentation:$(IMAGE_FOR)
# What replaces the digests in the Dockerfile for one build: BASE_IMAGES="BUILDER_IMAGE=… PYTHON_IMAGE=…
# SERVING_IMAGE=… BEAM_IMAGE=…".
BASE_IMAGES ?=
# Where packages come from, if not from PyPI: pip's configuration file, and the certificates of whoever signs.
PIP_CONF ?=
CA_BUNDLE ?=
# The time of every file that a build makes. Podman writes it throughout, so that two builds give equal layers; Docker
# would with rewrite-timestamp, which its exporter refuses where it unpacks what it built (docker/buildx#2733).
export SOURCE_DATE_EPOCH ?= 315532800
# Prints the first container engine that answers, among $ENGINE, docker and podman. A client alone builds nothing.
FIND_ENGINE := for candidate in "$${ENGINE:-}" docker podman; do \
		if [ -n "$$candidate" ] && "$$candidate" info > /dev/null 2>&1; then echo "$$candidate"; exit; fi; done; \
	echo "No container engine answers here, neither docker nor podman: start one, or name its command:" \
		"make image ENGINE=/path/to/podman" >&2; exit 1
CHECK_BASE_IMAGES := for image in $$(sed -n 's/^ARG \(.*_IMAGE\)=.*sha256:0\{64\}$$/\1/p' Dockerfile); do \
		case " $(BASE_IMAGES)" in *" $$image="*) ;; *) \
			echo "$$image has a placeholder for a digest in the Dockerfile; docs/kubeflow.md, step 3, fills it" >&2; \
			exit 1;; esac; done
export ENGINE ?=

COMPILE := $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Install into .venv what the pipeline needs (TARGET=gpu for an NVIDIA GPU, with CUDA's libraries).

setup-dev: $(VENV)/installed-dev.sha256 ## The same, and what tests and checks need.

run: setup ## Train, evaluate and push a model (ARGS="--recipe NAME ..." for another recipe; TARGET=gpu as for setup).
	@$(BIN)/python -m pipeline.run_local $(ARGS)

test: lint ## Run all checks and all tests.
	@$(BIN)/python -m pytest $(ARGS)

lint: setup-dev ## Check format, style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup-dev ## Build the documentation into build/site, the recipe reference anew.
	@$(BIN)/python -m docs.recipe_reference --output docs/recipe-reference.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(UV) ## Resolve requirements/*.in anew into requirements/*.lock; says first how old those are.
	@$(LOCK_AGES)
	@$(COMPILE) --upgrade requirements/cpu.in --overrides requirements/overrides.txt -o requirements/cpu.lock
	@$(COMPILE) --upgrade requirements/gpu.in --overrides requirements/overrides.txt --overrides requirements/overrides-gpu.txt -o requirements/gpu.lock
	@$(COMPILE) --upgrade requirements/signing.in --overrides requirements/overrides.txt -o requirements/signing.lock
	@$(COMPILE) --upgrade requirements/dev.in --overrides requirements/overrides.txt -o requirements/dev.lock
	@$(COMPILE) --upgrade requirements/tools.in -o requirements/tools.lock

# Strict, because packages that the service does not know would pass otherwise: those of an index that has no
# such service, all of them.
audit: $(TOOLS)/installed.sha256 ## Look all locked packages up among known vulnerabilities, at PyPI (ARGS="-s osv").
	@$(LOCK_AGES); failed=; for lock in requirements/*.lock; do \
		echo "$$lock:"; $(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
			--requirement "$$lock" $(ARGS) || failed+=" $$lock"; done; \
	if [ -n "$$failed" ]; then echo "not without fault:$$failed" >&2; exit 1; fi

licences: setup-dev ## List the licences of what is shipped, and fail for those that bind or are not said.
	@$(BIN)/python -m docs.licences $(ARGS)

image: ## Build the container image (TARGET=gpu, IMAGE=NAME:TAG; base images, index: see docs/kubeflow.md).
	@engine="$$($(FIND_ENGINE))"; $(CHECK_BASE_IMAGES); \
	revision="$$(git rev-parse HEAD 2> /dev/null || echo unknown)"; \
	if [ -n "$$(git status --porcelain 2> /dev/null)" ]; then revision+=-dirty; fi; \
	case "$$("$$engine" --version)" in podman*) times="--timestamp $$SOURCE_DATE_EPOCH";; *) times=;; esac; \
	"$$engine" build --tag $(IMAGE) $$times --build-arg SOURCE_DATE_EPOCH="$$SOURCE_DATE_EPOCH" \
		--build-arg LOCK=$(LOCK_$(IMAGE_FOR)) \
		$(BASE_IMAGES:%=--build-arg %) $(PIP_CONF:%=--secret id=pip_conf,src=%) \
		$(CA_BUNDLE:%=--secret id=ca,src=% --build-arg PIP_CERT=/run/secrets/ca) \
		--build-arg REVISION="$$revision" .

clean: ## Remove .venv and caches; work directories stay.
	@rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp holds its lock's hash and is written last: an interrupted installation does not count, and
# a lock that only looks newer (a fresh checkout) installs nothing. --clear takes all stamps along: an
# environment is for the CPU or for GPUs, never half of each.
$(STAMP): $(LOCK_$(MADE_FOR))
	@if ! sha256sum --check --status $@ 2>/dev/null; then \
		python="$$($(FIND_PYTHON))"; \
		echo "Installing into $(VENV) (a few minutes, once) ..."; \
		"$$python" -m venv --clear $(VENV); \
		$(if $(filter gpu,$(MADE_FOR)),touch $(FOR_GPU);) \
		$(call INSTALL,$(VENV),$<); \
		$(if $(filter gpu,$(MADE_FOR)),$(LINK_CUSOLVER);) \
		sha256sum $< > $@; \
	fi; touch $@

$(VENV)/installed-dev.sha256: $(STAMP) requirements/dev.lock
	@if ! sha256sum --check --status $@ 2>/dev/null; then \
		$(call INSTALL,$(VENV),requirements/dev.lock); \
		sha256sum requirements/dev.lock > $@; \
	fi; touch $@

$(TOOLS)/installed.sha256: requirements/tools.lock
	@if ! sha256sum --check --status $@ 2>/dev/null; then \
		python="$$($(FIND_PYTHON))"; "$$python" -m venv --clear $(TOOLS); \
		$(call INSTALL,$(TOOLS),requirements/tools.lock); \
		sha256sum requirements/tools.lock > $@; \
	fi; touch $@

$(UV):
	@python="$$($(FIND_PYTHON))"; "$$python" -m venv .cache/uv
	@.cache/uv/bin/python -m pip install --quiet uv==$(UV_VERSION)

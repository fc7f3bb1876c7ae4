# A thin front of CMake: every word here is a word of the README.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
BUILD := build
PACKAGES := $(shell sed 's/\#.*//' configs/debian-packages.txt)

.PHONY: all deps demo test check bench fuzz tidy format install clean cluster-test

all: deps-present
	@cmake --preset release $(if $(wildcard $(BUILD)/build.ninja),>/dev/null,)
	@cmake --build --preset release -j $(JOBS)

# Installs the Debian packages that are missing, and says which.
deps:
	@missing=(); for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok' || missing+=($$p); done; \
	if [ $${#missing[@]} -eq 0 ]; then echo "all packages are installed"; exit 0; fi; \
	echo "installing: $${missing[*]}"; \
	sudo=; if [ $$(id -u) -ne 0 ]; then sudo=sudo; echo "(with sudo)"; fi; \
	$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $${missing[@]}

# For targets that build: quiet when nothing is missing.
.PHONY: deps-present
deps-present:
	@for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok' || exec $(MAKE) --no-print-directory deps; done

# Five nodes, two models, one killed worker, verified results; exit code 0 only if all of it held.
demo: all
	@tests/demo.sh $(BUILD)/bin

# Everything that is tested: unit tests, then clusters of real processes, then real models and data where they are present.
test: all
	@ctest --preset release -j $(JOBS) -LE 'cluster|real' --output-on-failure
	@ctest --preset release -L 'cluster|real' --output-on-failure

# Unit tests only, about a minute.
check: all
	@ctest --preset release -j $(JOBS) -L unit --output-on-failure

cluster-test: all
	@ctest --preset release -L cluster --output-on-failure

bench: all
	@$(BUILD)/bin/idunno bench infer
	@$(BUILD)/bin/idunno bench dispatch
	@$(BUILD)/bin/idunno bench fs

# The decoder of the bus under libFuzzer, FUZZ_SECONDS long.
FUZZ_SECONDS ?= 60
fuzz: deps-present
	@command -v clang++ >/dev/null || { echo "make fuzz needs clang: apt-get install clang libclang-rt-14-dev"; exit 1; }
	@cmake --preset fuzz >/dev/null && cmake --build --preset fuzz -j $(JOBS) --target decode_fuzz
	@mkdir -p build-fuzz/corpus && build-fuzz/bin/decode_fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=65536 build-fuzz/corpus

tidy: all
	@run-clang-tidy -quiet -p $(BUILD) '$(CURDIR)/(bus|storage|nodes|cli)/.*\.cc$$'

format:
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf $(BUILD) build-dev build-tsan build-fuzz

# A thin front of CMake: every word here is a word of the README.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
BUILD := build
PACKAGES := $(shell sed 's/\#.*//' configs/debian-packages.txt)

.PHONY: all deps demo test check chaos bench fuzz tidy format install clean cluster-test

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

# Everything that is tested: unit tests, simulated clusters, clusters of real processes, real models and data where they are present, and
# a short selection of what can be done to processes. Tests with processes may try twice: they share the machine, and the output of a first
# failure is shown all the same.
test: all
	@ctest --preset release -j $(JOBS) -LE 'cluster|real|chaos|sim|web' --output-on-failure
	@ctest --preset release -L sim --output-on-failure
	@ctest --preset release -L 'cluster|real|chaos|web' --output-on-failure --repeat until-pass:2

# Unit tests only, about a minute.
check: all
	@ctest --preset release -j $(JOBS) -L unit --output-on-failure

cluster-test: all
	@ctest --preset release -L cluster --output-on-failure

# Everything that can be done to real processes, then a random schedule for MINUTES (SEED=n repeats one). Needs root.
MINUTES ?= 60
chaos: all
	@$(BUILD)/bin/chaos_test --gtest_filter='ChaosShort.*:ChaosLong.*'
	@MINUTES=$(MINUTES) $(BUILD)/bin/chaos_test --gtest_filter='ChaosRandom.*'

# The clusters of real processes under AddressSanitizer and UBSan, or under ThreadSanitizer; FILTER chooses tests by name.
FILTER ?= *
.PHONY: asan tsan
asan tsan: deps-present
	@tests/sanitizers/run.sh $@ --jobs $(JOBS) --filter '$(FILTER)'

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

# Simulated clusters, one a seed: `make sim SEEDS=100000`. Stops at the first that breaks a rule, and says how to replay it.
SEEDS ?= 2000
FIRST ?= 1
NODES ?= 3,5,7
.PHONY: sim mutations
sim: deps-present
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS) --target idunno_sim
	@IDUNNO_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) \
	$(BUILD)/bin/idunno_sim --seeds $(SEEDS) --first $(FIRST) --nodes $(NODES) --jobs $(JOBS)

# Breaks the safety rules on purpose, one at a time, in a copy of the sources: a test must notice each.
mutations: deps-present
	@tests/sim/mutations/run.sh --jobs $(JOBS)

tidy: all
	@run-clang-tidy -quiet -p $(BUILD) '$(CURDIR)/(bus|storage|nodes|cli)/.*\.cc$$'

format:
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf $(BUILD) build-dev build-tsan build-fuzz build-mutations

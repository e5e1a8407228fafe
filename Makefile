# Everything that is built, tested and shown goes through these targets; CI calls only them.
# Run `make help` for the list.

GO        ?= go
ARCH      ?= arm64
OUT       ?= build
FUNCTIONS := send replay dlq-api
HOSTARCH  := $(shell $(GO) env GOARCH)

# The flags of a small, reproducible function: no cgo (the runtime has no libc of ours), no
# RPC mode (only the old go1.x runtime used it), no paths, no symbol table.
BUILD := CGO_ENABLED=0 $(GO) build -tags lambda.norpc -trimpath -ldflags "-s -w"

# The tools are versioned in a module of their own, so that they never become our dependencies.
# Relative, for the sake of folders with spaces in their names; make splits at them.
TOOLS     := build/tools
LINT      := $(TOOLS)/golangci-lint
BENCHSTAT := $(TOOLS)/benchstat

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: local ## Play one story on this machine: deliveries, failures, dead letters, replay.
	@build/backstop demo

.PHONY: dev
dev: local ## The same, staying up: HTTP API on 127.0.0.1:3000, Invoke API on :3001, console on :3003.
	@build/backstop dev

.PHONY: build
build: ## Build the functions for ARCH=arm64|amd64 into build/<function>/bootstrap.
	@for f in $(FUNCTIONS); do \
	  echo "build $(OUT)/$$f/bootstrap ($(ARCH))"; \
	  GOOS=linux GOARCH=$(ARCH) $(BUILD) -o "$(OUT)/$$f/bootstrap" ./functions/$$f || exit 1; \
	done

# `make demo` and `make dev` run these: the functions for this machine, and the CLI.
.PHONY: local
local:
	@for f in $(FUNCTIONS); do $(BUILD) -o build/local/$$f/bootstrap ./functions/$$f || exit 1; done
	@$(GO) build -o build/backstop ./cmd/backstop

# `sam build` runs build-<LogicalId> with ARTIFACTS_DIR set (template.yaml, Metadata). The platform is the
# template's, whatever the environment says; the shell reads ARTIFACTS_DIR, so any name will do.
ARTIFACT := GOOS=linux GOARCH=arm64 GOARM64=v8.0 $(BUILD) -o "$${ARTIFACTS_DIR:?says where}/bootstrap"
.PHONY: build-SendFunction build-QueueFunction build-ReplayFunction build-DlqApiFunction
build-SendFunction build-QueueFunction:
	$(ARTIFACT) ./functions/send
build-ReplayFunction:
	$(ARTIFACT) ./functions/replay
build-DlqApiFunction:
	$(ARTIFACT) ./functions/dlq-api

# Tests wait more than they compute: more of them at a time than there are processors. Those with
# the tag full run package by package: some kill what is late, and others take all processors.
TEST      := $(GO) test -p 2 -parallel 8
TEST_FULL := $(GO) test -p 1 -parallel 8 -tags full -timeout 20m

.PHONY: test
test: deps ## Run the tests that need Go and redis-server alone (installs it from Debian's packages when it can).
	$(GO) vet ./...
	$(TEST) -timeout 9m ./...

# The build tag full stands on the tests that need chromium, an AWS emulator, the AWS CLI or Python,
# or minutes. Every other result is already there: packages without such a test are left out.
.PHONY: test-full
test-full: SHELL := bash
test-full: deps-full test template ## Run all tests (installs chromium too; needs the AWS CLI, moto, cfn-lint from pip).
	$(GO) vet -tags full ./...
	@tests() { $(GO) list "$$@" -f '{{.ImportPath}} {{.TestGoFiles}} {{.XTestGoFiles}}' ./... | sort; }; \
	packages=$$(comm -13 <(tests) <(tests -tags full) | cut -d ' ' -f 1); \
	echo $(TEST_FULL) $$packages; \
	$(TEST_FULL) $${packages:?have the tag full}

.PHONY: race
race: deps ## Run the library's tests with the race detector.
	$(GO) test -race -p 2 -parallel 4 -timeout 20m ./lib/...

.PHONY: lint
lint: $(LINT) ## Check format and lint rules, with and without the build tag full.
	$(LINT) run ./...
	$(LINT) run --build-tags lambda.norpc,full ./...
	cd bench && ../$(LINT) run ./...
	$(LINT) fmt --diff ./...

.PHONY: template
template: deps-full ## Check template.yaml: cfn-lint, the SAM transform, and tests of what it becomes.
	cfn-lint template.yaml
	$(TEST_FULL) ./internal/stack

.PHONY: smoke-aws
smoke-aws: ## Check a deployed stack, STACK=name, for what only AWS can show.
	@STACK="$(STACK)" SINK="$(SINK)" HANG_SINK="$(HANG_SINK)" FIRE="$(FIRE)" scripts/smoke-aws.sh

.PHONY: fmt
fmt: $(LINT) ## Format the code.
	$(LINT) fmt ./...

.PHONY: generate
generate: ## Write what is generated: the schema of sinks' configuration, and docs/kinds.md.
	$(GO) run ./lib/config/schemagen >build/generated && mv build/generated config/sinks/schema.json
	$(GO) run ./internal/kinds/kindsdoc >build/generated && mv build/generated docs/kinds.md

$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BENCHSTAT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ golang.org/x/perf/cmd/benchstat

# The raw output, for benchstat, is beside the table. What is selected with BENCH says itself if it lacks PostgreSQL.
BENCH ?= .
LETTERS ?=
.PHONY: bench
bench: SHELL := bash
bench: .SHELLFLAGS := -o pipefail -c
bench: $(if $(filter .,$(BENCH)),deps-bench,deps) ## Compare with baselines and peers in one run, and print one table (BENCH=regexp selects; LETTERS=1000000 to restore).
	@mkdir -p build
	cd bench && $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 60m . $(if $(LETTERS),-letters $(LETTERS)) | tee ../build/bench.txt

.PHONY: bench-compare
bench-compare: $(if $(filter .,$(BENCH)),deps-bench,deps) $(BENCHSTAT) ## Run the benchmarks of BASE=revision and of this tree in turn; benchstat's verdict.
	@BASE="$(BASE)" BENCH="$(filter-out .,$(BENCH))" ROUNDS="$(ROUNDS)" scripts/bench-compare.sh

.PHONY: deps deps-full deps-bench
deps: ## Install what `make test` needs, or say what is missing.
	@scripts/deps.sh base
deps-full: ## The same for `make test-full`.
	@scripts/deps.sh full
deps-bench: ## The same for `make bench`.
	@scripts/deps.sh bench

# A run of 100,000 takes some minutes, one of a million an hour.
N    ?= 100000
SEED ?= 0
SOAK  = $(GO) test -tags full ./internal/soak -run TestSoak -count=1 -v -soak.seed=$(SEED)
.PHONY: soak soak-million
soak: deps ## Account for N=100000 deliveries under faults, each call held against the model; SEED=n repeats a run.
	$(SOAK) -timeout 4h -soak.n=$(N) -soak.restarts=6 -soak.kills=24
soak-million: deps ## The same with a million, and five times the faults.
	$(SOAK) -timeout 4h -soak.n=1000000 -soak.restarts=30 -soak.kills=120

.PHONY: wipe
wipe: deps ## The same with a journal, which is slow and fails, while Redis is full, killed and wiped twice.
	$(GO) test -tags full ./internal/wipe -run TestWipe -count=1 -timeout 20m -v -wipe.n=$(N) -wipe.seed=$(SEED) -wipe.kills=40

.PHONY: races
races: N = 10000
races: deps ## Let N=10000 cancellations race against due times, arrivals, duplicates and takeovers, and N/10 edits; SEED=n repeats a run.
	$(GO) test -tags full ./internal/races -count=1 -timeout 60m -v -races.n=$(N) -edits.n=$$(($(N) / 10)) -races.seed=$(SEED)

.PHONY: outage
outage: ## Play outages with 200 processes on a synthetic clock, some 5 minutes; SEED=n repeats a run.
	$(GO) test ./internal/outage -run TestOutage -count=1 -timeout 30m -v -outage.processes=200 -outage.hour=1h -outage.seed=$(SEED)

# A seed of its own is that one alone. Seeds are played by as many processes as there are processors.
SEEDS ?= $(if $(filter-out 0,$(SEED)),1,1000)
.PHONY: sim
sim: ## Simulate a fleet under faults on a synthetic clock, SEEDS=1000 from 1 on, and a day; SEED=n repeats one (DAY=1: a day).
	$(GO) test ./internal/sim -run 'TestSim$$' -count=1 -timeout 30m -v -sim.seed=$(SEED) -sim.seeds=$(SEEDS) $(if $(DAY),-sim.day)

.PHONY: release
release: ## Make release VERSION=v1.2.3: zips, checksums, changelog, commit, tag; pushes nothing (DRY=1: only the files).
	@$(GO) run ./internal/release $(if $(DRY),-n) "$(VERSION)"

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME=30s; FUZZ=name selects.
	@scripts/fuzz.sh

.PHONY: mutants
mutants: deps ## Plant faults, one at a time, and check that the tests catch each.
	@scripts/mutants.sh

# Each is a module of its own, and shows what a module elsewhere needs.
.PHONY: examples
examples: $(LINT) ## Build, vet, test and lint each module of examples/ from its own folder.
	@for m in examples/*/go.mod; do \
	  echo "$${m%/go.mod}"; \
	  ( cd "$${m%/go.mod}" && $(GO) build ./... && $(GO) vet ./... && $(GO) test ./... && \
	    "$(CURDIR)/$(LINT)" run ./... && "$(CURDIR)/$(LINT)" fmt --diff ./... ) || exit 1; \
	done

.PHONY: rename
rename: ## Set the module's path everywhere, for publishing: MODULE=example.org/team/backstop.
	@$(GO) run ./internal/rename "$(MODULE)"

.PHONY: clean
clean: ## Remove everything that was built.
	rm -rf build .aws-sam

# Works in a fresh clone with Go, git and make. The workspace is for editors only: see go.work.
export GOWORK := off

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

BIN       ?= bin
FUZZTIME  ?= 30s
# With CI=true results are not taken from the cache.
TESTFLAGS ?= $(if $(CI),-count=1)

VERSION ?= $(shell git describe --tags --match 'v*' --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
# Of the commit, in UTC, so that it is the same in every build.
DATE    ?= $(shell TZ=UTC0 git show -s --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
STAMP   := github.com/process-wrapper/process-wrapper/pkg/cli
LDFLAGS := -s -w -X $(STAMP).version=$(VERSION) -X $(STAMP).commit=$(COMMIT) -X $(STAMP).date=$(DATE)

# Debian packages: gcc for the race detector, the rest for tests that drive the binaries.
LINT_PACKAGES  := shellcheck
TEST_PACKAGES  := ca-certificates gcc libc6-dev util-linux busybox-static docker.io prometheus prometheus-node-exporter etcd-server \
                  mariadb-server postgresql rabbitmq-server chromium fonts-dejavu-core curl netcat-openbsd python3 systemd zsh fish
BENCH_PACKAGES := supervisor s6 runit tini

# Without tools/e2e/textparse: to tidy it means to download 800 MB of what Prometheus' own tests need.
MODULES := . tools/dev tools/e2e tools/charts tools/backends/victorialogs

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build every command and examples/hello into bin/
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/... ./examples/hello

.PHONY: stamps
stamps:
	@echo VERSION=$(VERSION) COMMIT=$(COMMIT) DATE=$(DATE)

.PHONY: reproducible
reproducible: ## compile everything twice, with empty caches, and compare; 10 minutes
	@scripts/reproducible.sh

.PHONY: run
run: build ## run examples/demo.yaml under process-wrapper
	@mkdir -p tmp
	@echo 'Starting examples/demo.yaml. When the log says that all is ready, open:'
	@echo '  http://localhost:8080/              the demo server; /slow takes 5 s, also when you stop it meanwhile with kill -TERM'
	@echo '  http://localhost:8111/              the status page; bin/process-wrapper ctl top shows the same here'
	@echo '  http://localhost:8111/v1/processes  phases, restarts, probes'
	@echo '  http://localhost:8111/readiness     what the kubelet asks (also /liveness)'
	@echo '  http://localhost:8111/metrics       for Prometheus'
	@echo '  http://localhost:9099/metrics       of the metrics-server; send it a count from bash:'
	@echo '    echo '"'"'{"name":"hi","op":"inc","value":1}'"'"' > /dev/udp/127.0.0.1/9999'
	@echo '  http://localhost:8191/v1/locks      who holds which lock; bin/shared-lock ls shows the same here'
	@echo 'Ctrl-C stops it.'
	@METRICS_SERVER_ADDRESS=127.0.0.1:9999 exec $(BIN)/process-wrapper -config examples/demo.yaml -readiness-file tmp/started

.PHONY: test
test: test-packages test-unit test-race test-backends test-charts test-e2e ## install what the tests need, then run all of them

.PHONY: test-packages
test-packages:
	@scripts/packages.sh 'the race detector and tests in namespaces and containers' $(TEST_PACKAGES)
	@scripts/upx-package.sh

.PHONY: test-unit
test-unit: ## unit tests
	@echo '# unit tests'
	@go test $(TESTFLAGS) ./...

.PHONY: test-race
test-race: ## unit tests under the race detector
	@echo '# unit tests with -race'
	@CGO_ENABLED=1 go test -race $(TESTFLAGS) ./...

.PHONY: test-e2e
test-e2e: ## end-to-end tests: drive the built binaries
	@echo '# end-to-end tests'
	@go -C tools/e2e test -timeout 15m $(TESTFLAGS) ./...
	@go -C tools/e2e/textparse test $(TESTFLAGS) ./...

# A module of its own: Helm and the types of Kubernetes take 140 s of CPU time to build, once.
.PHONY: test-charts
test-charts: ## Helm charts and plain manifests: valid, restricted, accepted by the binaries
	@echo '# charts and manifests'
	@go -C tools/charts test $(TESTFLAGS) ./...

# A module of its own, so that only this target pays for its build: under a minute, once.
bin/victoria-logs: tools/backends/victorialogs/go.mod tools/backends/victorialogs/go.sum
	@echo 'Building VictoriaLogs; this takes a minute once.'
	@CGO_ENABLED=0 go -C tools/backends/victorialogs build -trimpath -ldflags '-s -w' -o ../../../bin/ github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-logs
	@touch $@

.PHONY: test-backends
test-backends: bin/victoria-logs ## sinks against a real VictoriaLogs
	@echo '# sinks and VictoriaLogs'
	@VICTORIALOGS=$(CURDIR)/bin/victoria-logs go test -tags backends -p 1 -run '^TestVictoriaLogs' $(TESTFLAGS) ./pkg/sink/loki ./pkg/sink/search
	@VICTORIALOGS=$(CURDIR)/bin/victoria-logs go -C tools/e2e test -count=1 -run '^Test(EventsReachBothStores|AKilledServerLosesNothingThatIsSpooled)$$' .

# Loki is 157 MB and 2,156 packages: it is built when somebody wants it, and not for CI.
bin/loki: tools/backends/loki/go.mod tools/backends/loki/go.sum
	@echo 'Building Loki; this takes 11 minutes of CPU once.'
	@CGO_ENABLED=0 nice go -C tools/backends/loki build -trimpath -ldflags '-s -w' -o ../../../bin/ github.com/grafana/loki/v3/cmd/loki
	@touch $@

.PHONY: test-docker
test-docker: ## the commands of the docs for Docker alone: compiles all of it in a container, some minutes
	@scripts/packages.sh 'builds in containers' docker.io busybox-static curl iptables git make
	@DOCKER_COMPILE=1 go -C tools/e2e test -count=1 -timeout 45m -v -run '^TestTheDockerCommandsOfTheDocs$$' .

.PHONY: test-loki
test-loki: bin/loki ## the sink against a real Loki, which is built first
	@LOKI=$(CURDIR)/bin/loki go test -tags backends -count=1 -v -run '^TestLoki' ./pkg/sink/loki

.PHONY: soak
soak: ## ten million events to metrics-server at a steady rate, some minutes
	@SOAK=1 go -C tools/e2e test -count=1 -timeout 30m -v -run '^TestSoak$$' .

# Images. IMAGE is the directory that they are made from, TAG what they are called.
IMAGE    ?= tmp/image
REGISTRY ?= ghcr.io/process-wrapper
TAG      ?= $(VERSION)
DOCKER   ?= docker
DOCKER_BUILD = DOCKER_BUILDKIT=1 $(DOCKER) build -q -f deployment/docker/Dockerfile --network none --build-arg BINARIES=prebuilt \
               --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --build-arg DATE=$(DATE)

.PHONY: image-root
image-root: export GOOS := linux
image-root: build
	@scripts/image-root.sh $(BIN) $(IMAGE)/linux/$(shell go env GOARCH)

.PHONY: docker-build
docker-build: image-root ## build an image of each program, and one for injection
	@for name in process-wrapper shared-lock metadata-mock metrics-server prommerge; do \
	  echo "$(REGISTRY)/$$name:$(TAG)"; \
	  $(DOCKER_BUILD) --target $$name -t $(REGISTRY)/$$name:$(TAG) $(IMAGE) >/dev/null; \
	done
	@echo "$(REGISTRY)/process-wrapper-inject:$(TAG)"
	@$(DOCKER_BUILD) --target inject -t $(REGISTRY)/process-wrapper-inject:$(TAG) $(IMAGE) >/dev/null

.PHONY: docker-build-slim
docker-build-slim: image-root upx ## the same of process-wrapper packed by upx, without shared-lock
	@cp $(BIN)/packed/process-wrapper $(IMAGE)/linux/*/bin/
	@echo "$(REGISTRY)/process-wrapper:$(TAG)-slim"
	@$(DOCKER_BUILD) --target slim -t $(REGISTRY)/process-wrapper:$(TAG)-slim $(IMAGE) >/dev/null
	@echo "$(REGISTRY)/process-wrapper-inject:$(TAG)-slim"
	@$(DOCKER_BUILD) --target inject -t $(REGISTRY)/process-wrapper-inject:$(TAG)-slim $(IMAGE) >/dev/null

.PHONY: upx
upx: build ## pack process-wrapper: bin/packed/process-wrapper (NRV) and process-wrapper-lzma
	@scripts/upx.sh $(BIN)/process-wrapper $(BIN)/packed

# Installed from its own module: it is large, and nothing but a release needs it. The build takes minutes.
GORELEASER := github.com/goreleaser/goreleaser/v2@v2.16.0
bin/goreleaser:
	@echo 'Building goreleaser; this takes some minutes once.'
	@GOBIN=$(CURDIR)/bin go install -trimpath -ldflags '-s -w' $(GORELEASER)

bin/sbom bin/licenses bin/vulns bin/links: $(wildcard tools/dev/*/*.go) tools/dev/go.mod
	@go -C tools/dev build -trimpath -ldflags '-s -w' -o ../../$@ ./$(@F)

.PHONY: THIRD-PARTY-LICENSES.txt
THIRD-PARTY-LICENSES.txt: bin/licenses
	@bin/licenses -texts $@

.PHONY: licenses
licenses: bin/licenses ## write docs/licenses.md
	@bin/licenses -write docs/licenses.md

.PHONY: snapshot
snapshot: bin/goreleaser ## build all that a release has into dist/, offline, and publish nothing
	@scripts/snapshot.sh

.PHONY: release-check
release-check: bin/goreleaser ## check what a release needs: the config, a snapshot and what is in it
	@bin/goreleaser check
	@$(MAKE) snapshot
	@scripts/snapshot-check.sh

.PHONY: release-images
release-images: bin/goreleaser ## let goreleaser build the images of a release in a Docker of its own, and run them
	@scripts/packages.sh 'builds of images' docker.io git make
	@GORELEASER=$(CURDIR)/bin/goreleaser go -C tools/e2e test -count=1 -timeout 45m -v -run '^TestGoreleaserBuildsTheImages$$' .

.PHONY: release
release: bin/goreleaser ## publish the tag that is checked out; docs/releasing.md says what it needs
	@scripts/release-version.sh
	@PACKED=$$(command -v upx) || { echo 'make release needs upx, for the packed binaries.' >&2; exit 1; }; export PACKED; bin/goreleaser release --clean

.PHONY: sizes
sizes: ## record the sizes of the binaries, when a growth of more than 5 % is meant
	@go -C tools/e2e test -count=1 -run '^TestBinariesDoNotGrowUnnoticed$$' . -record

.PHONY: fault
fault: ## locks while etcd, servers, the network and holders fail: three runs of a minute, and defects to be found; 7 minutes
	@FAULT=1 go test -count=1 -run '^TestACrowdOnOneKey' ./pkg/lock/etcdstore
	@FAULT=1 go -C tools/e2e test -count=1 -timeout 40m -parallel 4 -v -run '^(TestFaults|TestMutantsAreCaught)$$' .

.PHONY: bench
bench: ## benchmarks, and comparisons with what Debian ships; BENCH=log for one part
	@[[ -n '$(BENCH)' ]] || go test -run '^$$' -bench . -benchmem -benchtime 100ms ./pkg/...
	@[[ '$(or $(BENCH),merge)' != merge ]] || go -C pkg/prommerge test -tags bench -count=1 -run '^TestMeasure$$'
	@[[ '$(or $(BENCH),sinks)' != sinks ]] || $(MAKE) bench-sinks
	@[[ '$(BENCH)' =~ ^(merge|sinks)$$ ]] || scripts/packages.sh 'comparisons with other process managers' $(BENCH_PACKAGES)
	@[[ '$(or $(BENCH),stores)' != stores ]] || $(MAKE) bin/victoria-logs
	@[[ '$(BENCH)' =~ ^(merge|sinks)$$ ]] || VICTORIALOGS=$(CURDIR)/bin/victoria-logs go -C tools/e2e test -tags bench -count=1 -timeout 15m -run '^TestMeasure$$/^($(if $(BENCH),$(BENCH),.*))$$'

.PHONY: bench-sinks
bench-sinks: bin/victoria-logs
	@VICTORIALOGS=$(CURDIR)/bin/victoria-logs go test -tags backends -p 1 -run '^$$' -bench VictoriaLogs -benchtime 3x ./pkg/sink/loki ./pkg/sink/search

.PHONY: overhead
overhead: ## measure docs/overhead.md anew and write its tables; two minutes on a machine that does nothing else
	@go -C tools/e2e test -tags bench -count=1 -timeout 15m -run '^TestMeasure$$/^overhead$$' . -update

.PHONY: trials
trials: ## long tests of locks: 100 hand-overs, ten of each fault, ten minutes beside a slow probe; 15 minutes
	@LOCK_TRIALS=10 go -C tools/e2e test -count=1 -timeout 30m -parallel 8 -run '^TestHandOversAfterADrain$$' -v .
	@LOCK_TRIALS=10 go -C tools/e2e test -count=1 -timeout 30m -run '^TestA(Holder|Lock|notherPod)' -v .

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: bin/golangci-lint bin/misspell bin/licenses bin/links ## check code, modules, licences, vulnerabilities, scripts, spelling and links
	@files=$$(gofmt -l .); [[ -z $$files ]] || { echo "not formatted, run gofmt -w on:" $$files >&2; exit 1; }
	@bin/golangci-lint run ./...
	@for d in tools/dev tools/e2e tools/e2e/textparse tools/charts; do (cd $$d && $(CURDIR)/bin/golangci-lint run --config $(CURDIR)/.golangci.yml ./...); done
	@for m in $(MODULES); do go -C $$m mod tidy -diff || { echo "$$m/go.mod is not tidy: run make tidy" >&2; exit 1; }; done
	@go -C tools/dev test ./...  >/dev/null || go -C tools/dev test ./...
	@bin/licenses -check docs/licenses.md
	@bin/misspell -error -i supress $$(git ls-files '*.md' .goreleaser.yaml Makefile deployment examples scripts)
	@go test -count=1 -run '^TestTheLinksOfTheDocsLeadSomewhere$$' ./pkg/wrapper >/dev/null || go test -count=1 -run '^TestTheLinksOfTheDocsLeadSomewhere$$' ./pkg/wrapper
	@bin/links $(LINKED)
	@scripts/packages.sh 'the check of shell scripts' $(LINT_PACKAGES)
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run scripts/*.sh scripts/buildx/docker deployment/systemd/*.{postinstall,preremove}; fi
	@$(MAKE) lint-vulnerabilities

# What has links out of the repository.
LINKED = $$(git ls-files '*.md' '*.yaml' '*.json' '*.service' deployment/docker | grep -v testdata)

.PHONY: links
links: bin/links ## ask every link of the docs whether it is still there; needs a network
	@bin/links -online $(LINKED)

# Asks the database of vulnerabilities of Go. Where that cannot be reached it says so, and fails only with RELEASE=1.
.PHONY: lint-vulnerabilities
lint-vulnerabilities: bin/govulncheck bin/vulns
	@bin/vulns -govulncheck bin/govulncheck -exceptions tools/dev/vulns/exceptions.txt ./cmd/...

GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
bin/govulncheck:
	@GOBIN=$(CURDIR)/bin go install -trimpath -ldflags '-s -w' $(GOVULNCHECK)

bin/misspell: tools/dev/go.mod tools/dev/go.sum
	@go -C tools/dev build -trimpath -ldflags '-s -w' -o ../../bin/ github.com/golangci/misspell/cmd/misspell
	@touch $@

# Its version is in tools/dev/go.mod; the first build takes minutes, later ones are cached.
bin/golangci-lint: tools/dev/go.mod tools/dev/go.sum
	@echo 'Building golangci-lint; this takes some minutes once.'
	@go -C tools/dev build -trimpath -ldflags '-s -w' -o ../../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: tidy
tidy: ## go mod tidy in every module
	@for m in $(MODULES); do go -C $$m mod tidy; done

.PHONY: clean
clean: ## remove what make built
	@rm -rf bin dist tmp THIRD-PARTY-LICENSES.txt

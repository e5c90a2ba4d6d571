package e2e

// ownPod is the config of the first page, for commands that want something that runs.
const ownPod = `cat >own.yaml <<'END'
- {name: web, entrypoint: busybox, args: [httpd, -f, -p, "8000"], readiness: {delay: 0s, period: 100ms, tcp: {socket: "127.0.0.1:8000"}}}
END
serve 'process-wrapper -config own.yaml' 'msg="ready" name=web'
`

// examples are the commands that are run.
var examples = []example{
	{
		page: "README.md", blocks: []string{"make run "}, tree: true, needs: []string{"make", "git", "go"},
		serves: []lasting{{"make run", `all processes are ready`}},
		change: []string{"make test ", "curl -sf localhost:8111/readiness localhost:8080/ -o /dev/null -o /dev/null # "},
		says:   []string{`http://localhost:8111/ `, `msg="ready" name=hello`},
	},
	{
		page: "docs/configuration.md", blocks: []string{"process-wrapper -config hello.yaml"}, files: []string{"hello.yaml"},
		says: []string{`(?s)(name=hello .*msg="hello world".*){3}`},
	},
	{
		page: "docs/configuration.md", blocks: []string{"process-wrapper run -ready-http"}, needs: []string{"python3"},
		serves: []lasting{{"process-wrapper run", `msg="ready" name=python3`}},
	},
	{
		page: "docs/functionality.md", blocks: []string{"process-wrapper validate", "curl localhost:8111/readiness "}, files: []string{"pod.yaml"},
		needs:  []string{"python3"},
		serves: []lasting{{"process-wrapper -config", `msg="ready" name=clock`}},
		change: []string{`kill "$(`, `sleep 0; kill -9 "$(`, "# watch it come back", "; curl -s 'localhost:8111/readiness?wait=30s'"},
		says:   []string{`\{"web":true,"clock":true\}`, `"phase":"ready"`, `(?m)^ok`},
	},
	{
		page: "docs/functionality.md", blocks: []string{"process-wrapper -config long.yaml"}, files: []string{"long.yaml", "worker.sh"}, needs: []string{"python3"},
		serves: []lasting{{"process-wrapper -config long.yaml", `msg="ready" name=gateway`}}, says: []string{`name=worker .*msg="working"`},
	},
	{
		page: "docs/control.md", blocks: []string{`eval "$(process-wrapper completion`, "process-wrapper ctl status", "curl --unix-socket"}, first: ownPod,
		change: []string{"NAME", "web", "completion bash)\"", "completion bash)\"; complete -p process-wrapper"},
		says:   []string{`complete .*-F \w+ process-wrapper`, `(?m)^web +ready`, `"name":"web"`},
	},
	{
		page: "docs/metadata-mock.md", blocks: []string{"metadata-mock &", "metadata-mock ctl fault"},
		serves: []lasting{
			{"metadata-mock &", "listening"},
			// It waits, so what it says comes after the next command.
			{"curl -H 'Metadata-Flavor: Google' 'http://localhost:8989/computeMetadata/v1/instance/preempted?wait", `^$|Total|TRUE`},
		},
		change: []string{"ctl preempt", "ctl wait waiting=1; metadata-mock ctl preempt; until grep -q TRUE /tmp/terminal2; do sleep 0.1; done #"},
		says:   []string{`FALSE`, `TRUE`},
	},
	{
		page: "docs/metrics-server.md", blocks: []string{"metrics-server -loki-address", "echo '"}, needs: []string{"nc"},
		serves: []lasting{{"metrics-server", "listening"}},
		change: []string{"metric-server.sock", "metric-server.sock; until [[ $(curl -s http://127.0.0.1:9099/metrics | grep -c ^jobs_done) -ge 3 ]]; do sleep 0.1; done; curl -s http://127.0.0.1:9099/metrics"},
		says:   []string{`jobs_done\{data_source=":9999",job="backup"\} 1`, `jobs_done\{data_source=":9999"\} 1`, `jobs_done\{data_source="[^:]*"\} 1`},
	},
	{page: "docs/observability.md", blocks: []string{"promtool check"}, tree: true, needs: []string{"promtool"}, says: []string{`SUCCESS: \d+ rules found`}},
	{
		page: "docs/observability.md", blocks: []string{"metrics-server -uds"},
		serves: []lasting{{"metrics-server", "listening"}, {"METRICS_SERVER_ADDRESS", `msg="started" name=false .*restarts=1`}},
		says:   []string{`metrics_server_\w+\{.*reason="no_sink".*\} [1-9]`},
	},
	{
		page: "docs/preemption.md", blocks: []string{"go run cmd/metadata-mock", "HANDLE_PREEMPTION=true", "curl localhost:8111/readiness "}, tree: true, needs: []string{"go"},
		serves: []lasting{{"go run cmd/metadata-mock", "listening"}, {"HANDLE_PREEMPTION", "listening"}},
		change: []string{"/control/preempt", "/control/preempt; while curl -sf localhost:8111/readiness >/dev/null; do sleep 0.1; done"},
		says:   []string{`(?m)^ok`, `pod: preempted: GCE takes this machine away`, `process_wrapper_preempt\w* 1`},
	},
	{
		page: "docs/probes.md", blocks: []string{"curl -X PATCH"},
		first:  "serve 'CONFIG=\"[{name: loop, entrypoint: /bin/sleep, args: [\\\"1000\\\"], readiness: {delay: 0s, period: 200ms, heartBeat: {period: 15s}}}]\" process-wrapper' listening\n",
		change: []string{"loop'", "loop'; curl -sf 'localhost:8111/readiness?wait=10s'"}, says: []string{`(?m)^ok`},
	},
	{
		page: "docs/prommerge.md", blocks: []string{"prommerge -target"},
		first:  "echo 'jobs_total 1' >metrics; busybox httpd -p 8080; busybox httpd -p 9100\n",
		serves: []lasting{{"prommerge", "listening"}}, says: []string{`jobs_total\{process_name="app"\} 1`, `jobs_total\{process_name="node"\} 1`},
	},
	{
		page: "docs/shared-lock.md", blocks: []string{"shared-lock -embedded-etcd", "curl -d '{"},
		serves: []lasting{{"shared-lock -embedded-etcd", "listening"}, {"shared-lock run", `I am alone, my token is [1-9]`}},
		change: []string{"/acquire ", "/acquire | tee said ", "token=7 ", `token=$(grep -oE '"token":[0-9]+' said | cut -d: -f2) `, " -X PUT ", " -sf -X PUT ", " -X DELETE ", " -sf -X DELETE "},
		says:   []string{`(?m)^backup `, `"key": ?"a/b"`},
	},
	{
		page: "docs/shared-lock.md", blocks: []string{"SHARED_LEASE_ETCD_ENDPOINTS="}, needs: []string{"etcd"},
		first: "echo 127.0.0.1 etcd-0 etcd-1 etcd-2 localhost >/tmp/hosts; mount --bind /tmp/hosts /etc/hosts\n" +
			"serve 'etcd --data-dir data' 'ready to serve client requests'\n",
		serves: []lasting{{"SHARED_LEASE_ETCD_ENDPOINTS=", "listening"}},
	},
}

const (
	needsCluster = "needs a cluster"
	needsHub     = "pulls an image from a registry"
	byCharts     = "TestTheCommandsOfTheDocsWork in tools/charts runs them by the libraries of helm and kustomize; nothing is applied to a cluster"
	byDocker     = "make test-docker runs it, as it compiles everything in a container"
)

// notRun are the blocks that this test does not run, and why.
var notRun = []untried{
	{"README.md", "docker build -t process-wrapper ", byDocker},
	{"CONTRIBUTING.md", "make build ", "they are what runs these tests, and CI"},
	{"docs/control.md", "kubectl exec", needsCluster},
	{"docs/deployment.md", "make docker-build REGISTRY=", needsHub + "; TestImagesSayWhatTheyAre runs make docker-build, and tools/charts the line of helm"},
	{"docs/deployment.md", "helm template --release-name process-wrapper ", byCharts},
	{"docs/deployment.md", "helm template -f values.yaml", byCharts},
	{"docs/deployment.md", "kubectl kustomize", byCharts},
	{"docs/deployment.md", "helm template shared-lock", byCharts},
	{"docs/deployment.md", "helm template metrics-server", byCharts},
	{"docs/deployment.md", "helm template prommerge", byCharts},
	{"docs/functionality.md", "#!/bin/sh", "is the file worker.sh, which the example of long.yaml runs"},
	{"docs/images.md", "make docker-build ", "TestImagesSayWhatTheyAre and TestSlimImages run these targets"},
	{"docs/images.md", "docker build -t process-wrapper:dev", byDocker},
	{"docs/images.md", "docker build -t process-wrapper-inject:dev", byDocker},
	{"docs/metadata-mock.md", "HANDLE_PREEMPTION=true", "TestScenariosOfProcessWrapper runs these two lines, and checks that they are those of the page"},
	{"docs/overhead.md", "make overhead", "measures for two minutes"},
	{"docs/overhead.md", "docker run", needsHub},
	{"docs/overhead.md", "go build -o", "perf needs the performance counters of the kernel, which containers do not have"},
	{"docs/performance.md", "make bench", "measures for minutes"},
	{"docs/probes.md", "docker run", needsHub + "; TestAMQP drives the same check against a RabbitMQ of Debian"},
	{"docs/probes.md", "AMQP_PROBE", "needs the broker of the block before"},
	{"docs/releasing.md", "apt-get install", "needs a release, and systemd; TestUnits… looks at the units"},
	{"docs/releasing.md", "git checkout", "needs the tag of a release; TestTwoBuildsOfACommitAreIdentical builds twice"},
}

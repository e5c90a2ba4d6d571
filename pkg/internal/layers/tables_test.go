package layers

const module = "github.com/process-wrapper/process-wrapper"

// ours says which of our packages each of our packages may import, all paths relative to the
// module. "x/*" stands for everything below x.
var ours = map[string][]string{
	"pkg/prommerge": {},
	"pkg/datagram":  {},
	"pkg/status":    {},
	"pkg/output":    {},
	"pkg/probe":     {},
	"pkg/spec":      {},
	"pkg/profile":   {},

	"pkg/process":    {"pkg/status", "pkg/probe"},
	"pkg/collect":    {"pkg/datagram"},
	"pkg/supervisor": {},
	"pkg/command":    {},
	"pkg/lease":      {},
	"pkg/lock":       {},
	"pkg/preempt":    {},
	"pkg/pod":        {},
	"pkg/metadata":   {},

	"pkg/lock/etcdstore":     {"pkg/lock"},
	"pkg/prommerge/compress": {"pkg/prommerge"},
	"pkg/sink":               {"pkg/datagram"},
	"pkg/sink/loki":          {"pkg/datagram", "pkg/sink"},
	"pkg/sink/search":        {"pkg/datagram", "pkg/sink"},
	"pkg/sink/sinktest":      {"pkg/datagram", "pkg/sink"},
	"pkg/probe/sql":          {"pkg/probe"},
	"pkg/probe/amqp":         {"pkg/probe"},
	"pkg/probe/grpc":         {"pkg/probe"},
	"pkg/telemetry":          {"pkg/status", "pkg/datagram"},
	"pkg/api":                {"pkg/status"},
	"pkg/cli":                {"pkg/output"},

	"pkg/wrapper":       {"pkg/*"},
	"pkg/metadata/mock": {"pkg/metadata", "pkg/cli"},

	".":                   {"pkg/wrapper"},
	"cmd/process-wrapper": {"pkg/wrapper"},
	"cmd/shared-lock":     {"pkg/*"},
	"cmd/metadata-mock":   {"pkg/metadata/mock"},
	"cmd/metrics-server":  {"pkg/*"},
	"cmd/prommerge":       {"pkg/*"},

	"pkg/internal/etcdtest": {},
	"pkg/internal/layers":   {},
	"pkg/internal/testx":    {},
	"examples/hello":        {},
}

// only says who alone may import a package; it goes before the patterns of ours.
var only = map[string][]string{
	"pkg/internal/etcdtest": {}, // by tests only
	"pkg/spec":              {"pkg/wrapper"},
	"pkg/cli":               {"pkg/wrapper", "pkg/metadata/mock", "cmd/*"},
	"pkg/wrapper":           {".", "cmd/process-wrapper"},
	"pkg/metadata/mock":     {"cmd/metadata-mock"},
	"pkg/internal/layers":   {},
	"pkg/sink/sinktest":     {}, // by tests only
	"pkg/internal/testx":    {}, // by tests only, which are not looked at here
}

// theirs says which of our packages may import a module of others. A dependency is a budget: a new
// line says in its commit what it replaces and what it costs in bytes of binary.
var theirs = map[string][]string{
	"github.com/alecthomas/kong":               {"pkg/cli", "pkg/wrapper", "cmd/*"},
	"github.com/fsnotify/fsnotify":             {"pkg/wrapper"},
	"github.com/go-sql-driver/mysql":           {"pkg/probe/sql"},
	"github.com/grafana/loki-client-go":        {"pkg/sink/loki"},
	"github.com/grafana/pyroscope-go":          {"pkg/profile"},
	"github.com/klauspost/compress":            {"pkg/api", "pkg/collect", "pkg/prommerge/compress", "pkg/sink/*", "pkg/wrapper", "cmd/*"},
	"github.com/lib/pq":                        {"pkg/probe/sql"},
	"github.com/moby/sys/capability":           {"pkg/command"},
	"github.com/moby/sys/user":                 {"pkg/command"},
	"github.com/prometheus/client_golang":      {"pkg/telemetry", "pkg/collect", "pkg/lock", "pkg/lock/*", "pkg/sink/loki", "pkg/wrapper", "cmd/*"},
	"github.com/prometheus/client_model":       {"pkg/telemetry", "pkg/collect", "pkg/sink/loki"},
	"github.com/prometheus/common":             {"pkg/telemetry", "pkg/collect", "pkg/sink/loki", "pkg/wrapper"}, // linked by client_golang
	"github.com/rabbitmq/amqp091-go":           {"pkg/probe/amqp"},
	"github.com/shirou/gopsutil/v3":            {"pkg/telemetry"},
	"go.etcd.io/etcd/api/v3":                   {"pkg/lock/etcdstore"},
	"go.etcd.io/etcd/client/v3":                {"pkg/lock/etcdstore", "cmd/shared-lock"},
	"go.etcd.io/etcd/server/v3":                {"pkg/lock/etcdstore"},
	"go.uber.org/zap":                          {"pkg/lock/etcdstore", "cmd/shared-lock"}, // the logger that etcd asks for
	"golang.org/x/net":                         {"pkg/probe", "pkg/probe/grpc"},
	"golang.org/x/sync":                        {"pkg/*", "cmd/*"},
	"golang.org/x/sys":                         {"pkg/*", "cmd/*"},
	"golang.org/x/term":                        {"pkg/wrapper"},
	"golang.org/x/time":                        {"pkg/*"},
	"google.golang.org/grpc":                   {"pkg/lock/etcdstore"}, // how soon its connections try again
	"google.golang.org/protobuf":               {"pkg/telemetry", "pkg/collect"},
	"gopkg.in/yaml.v3":                         {"pkg/spec", "cmd/prommerge", "pkg/metadata/mock"},
	"k8s.io/client-go":                         {}, // +20 MiB; pkg/pod speaks REST
	"github.com/google/go-cmp":                 {}, // tests
	"go.uber.org/goleak":                       {}, // tests
	"pgregory.net/rapid":                       {}, // tests
	"github.com/rogpeppe/go-internal":          {}, // tests
	"github.com/anishathalye/porcupine":        {}, // tests
	"github.com/Shopify/toxiproxy/v2":          {}, // tests
	"github.com/dolthub/go-mysql-server":       {}, // tests
	"github.com/google/jsonschema-go":          {}, // tests
	"github.com/santhosh-tekuri/jsonschema/v6": {}, // tests
}

// templates switch the linker's pruning of methods off, +2 MiB.
var templates = []string{"html/template", "text/template"}

// budget is what a binary or library may not link, by prefix of the import path, and its size.
type budget struct {
	without  []string
	but      []string // what of that it may link
	stdOnly  bool     // nothing but the standard library and this module
	stripped int64
}

const mebibyte = 1 << 20

var budgets = map[string]budget{
	".":                   {without: append([]string{module + "/cmd"}, noServers...)},
	"cmd/process-wrapper": {without: noServers, stripped: 14 * mebibyte},                                                   // 13.1 with preemption, the watch of the pod and events
	"cmd/shared-lock":     {without: []string{"database/sql", "github.com/grafana"}, but: []string{"database/sql/driver"}}, // interfaces, for google/uuid below etcd's server
	"cmd/metadata-mock":   {without: append([]string{"database/sql", "github.com/prometheus", "go.etcd.io", "google.golang.org", "github.com/shirou"}, templates...)},
	"cmd/metrics-server":  {without: []string{"database/sql", "go.etcd.io"}, but: []string{"database/sql/driver"}}, // interfaces, for google/uuid below loki-client-go
	"cmd/prommerge":       {without: append([]string{"go.etcd.io", "github.com/shirou"}, templates...), stripped: 112 * mebibyte / 10},
	"pkg/prommerge":       {stdOnly: true},
}

// noServers is what process-wrapper leaves to the other binaries: it speaks HTTP to shared-lock
// and UDP to metrics-server.
var noServers = append([]string{
	"go.etcd.io", "google.golang.org/grpc", "github.com/grafana/loki-client-go", "k8s.io",
	module + "/pkg/lock", module + "/pkg/collect", module + "/pkg/sink", module + "/pkg/metadata",
}, templates...)

// uses says where alone a name of the standard library may be used. It holds for pkg/.
var uses = []struct {
	names []string // "package.Name", or "package" for its import
	in    []string
	why   string
}{
	{[]string{"os/exec"}, []string{"pkg/command", "pkg/sink/sinktest"}, "what starts and waits for processes has one home"},
	{[]string{
		"os.StartProcess", "syscall.StartProcess", "syscall.ForkExec", "syscall.Wait4",
		"golang.org/x/sys/unix.Wait4", "golang.org/x/sys/unix.Waitid",
	}, []string{"pkg/command"}, "what starts and waits for processes has one home"},
	{[]string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"}, []string{"pkg/cli", "pkg/command"},
		"only main exits; command does in the child that it forked"},
	{[]string{"time.Sleep"}, nil, "a wait needs a way out: select on a timer and a context"},
	{[]string{"net/http.Handle", "net/http.HandleFunc", "net/http.DefaultServeMux"}, nil, "every server has its own mux"},
	{[]string{"net/http/pprof", "expvar"}, nil, "importing it registers handlers"},
}

package prommerge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

const (
	textType  = "text/plain; version=0.0.4; charset=utf-8"
	omType    = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	protoType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// opened returns a target that needs no network.
func opened(name, contentType string, page []byte) prommerge.Target {
	return prommerge.Target{Name: name, Open: func(context.Context, string) (io.ReadCloser, string, error) {
		return io.NopCloser(bytes.NewReader(page)), contentType, nil
	}}
}

// pageGen writes pages that look like those of well-known exporters.
type pageGen struct {
	bytes.Buffer
	r *rand.Rand
}

func newPageGen(seed uint64) *pageGen { return &pageGen{r: rand.New(rand.NewPCG(seed, 7))} }

func (g *pageGen) head(name, typ, help string) {
	fmt.Fprintf(g, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, typ)
}

func (g *pageGen) value() string {
	switch g.r.IntN(4) {
	case 0:
		return strconv.Itoa(g.r.IntN(100))
	case 1:
		return strconv.FormatFloat(g.r.Float64()*1e5, 'f', 2, 64)
	case 2:
		return strconv.FormatFloat(float64(g.r.IntN(1<<40)), 'g', -1, 64)
	}
	return "0"
}

func (g *pageGen) single(name, typ, help string) {
	g.head(name, typ, help)
	fmt.Fprintf(g, "%s %s\n", name, g.value())
}

// series writes one line for each combination of label values.
func (g *pageGen) series(name string, labels []string, values ...[]string) {
	var walk func(i int, prefix string)
	walk = func(i int, prefix string) {
		if i == len(labels) {
			fmt.Fprintf(g, "%s{%s} %s\n", name, prefix, g.value())
			return
		}
		for _, v := range values[i] {
			p := prefix
			if i > 0 {
				p += ","
			}
			walk(i+1, p+labels[i]+`="`+v+`"`)
		}
	}
	walk(0, "")
}

func words(s string) []string { return strings.Fields(s) }

// nodePage is a page in the shape of node_exporter's: 283 families, 507 samples, 58 kB on a small machine.
func nodePage(seed uint64) []byte {
	g := newPageGen(seed)
	g.head("go_gc_duration_seconds", "summary", "A summary of the pause duration of garbage collection cycles.")
	g.series("go_gc_duration_seconds", []string{"quantile"}, words("0 0.25 0.5 0.75 1"))
	fmt.Fprintf(g, "go_gc_duration_seconds_sum %s\ngo_gc_duration_seconds_count 12\n", g.value())
	for _, n := range words("alloc_bytes buck_hash_sys_bytes frees_total gc_sys_bytes heap_alloc_bytes heap_idle_bytes heap_inuse_bytes " +
		"heap_objects heap_released_bytes heap_sys_bytes last_gc_time_seconds lookups_total mallocs_total mcache_inuse_bytes mspan_sys_bytes other_sys_bytes") {
		g.single("go_memstats_"+n, "gauge", "Number of "+n+" used for what the runtime does with it.")
	}
	g.single("go_goroutines", "gauge", "Number of goroutines that currently exist.")
	g.head("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.")
	g.series("node_cpu_seconds_total", []string{"cpu", "mode"}, words("0 1"), words("idle iowait irq nice softirq steal system user"))
	for _, n := range words("discard_time_seconds_total discarded_sectors_total discards_completed_total discards_merged_total flush_requests_time_seconds_total " +
		"flush_requests_total io_now io_time_seconds_total io_time_weighted_seconds_total read_bytes_total read_time_seconds_total reads_completed_total " +
		"reads_merged_total write_time_seconds_total writes_completed_total writes_merged_total written_bytes_total") {
		g.head("node_disk_"+n, "counter", "The number of "+n+" of a disk.")
		g.series("node_disk_"+n, []string{"device"}, words("vda zram0"))
	}
	for _, n := range words("avail_bytes device_error files files_free free_bytes readonly size_bytes") {
		g.head("node_filesystem_"+n, "gauge", "Filesystem "+n+".")
		g.series("node_filesystem_"+n, []string{"device", "fstype", "mountpoint"}, words("/dev/vda1"), words("ext4"), words("/ /boot /var/lib/docker"))
	}
	for i := range 52 {
		g.single(fmt.Sprintf("node_memory_Part%02d_bytes", i), "gauge", fmt.Sprintf("Memory information field Part%02d_bytes.", i))
	}
	for i := range 48 {
		g.single(fmt.Sprintf("node_netstat_Ip%02d_InOctets", i), "untyped", fmt.Sprintf("Statistic Ip%02d InOctets.", i))
	}
	for i := range 38 {
		n := fmt.Sprintf("node_network_receive%02d_total", i)
		g.head(n, "counter", "Network device statistic of "+n+".")
		g.series(n, []string{"device"}, words("eth0 lo"))
	}
	g.head("node_scrape_collector_duration_seconds", "gauge", "node_exporter: Duration of a collector scrape.")
	g.head("node_scrape_collector_success", "gauge", "node_exporter: Whether a collector succeeded.")
	for _, n := range words("node_scrape_collector_duration_seconds node_scrape_collector_success") {
		g.series(n, []string{"collector"}, words("arp bcache bonding btrfs conntrack cpu cpufreq diskstats dmi edac entropy fibrechannel filefd filesystem "+
			"hwmon infiniband ipvs loadavg mdadm meminfo netclass netdev netstat nfs nfsd nvme os powersupply pressure rapl schedstat selinux sockstat softnet "+
			"stat tapestats textfile thermal_zone time timex udp_queues uname vmstat xfs zfs"))
	}
	for i := range 60 {
		g.single(fmt.Sprintf("node_vmstat_field%02d", i), "untyped", fmt.Sprintf("/proc/vmstat information field field%02d.", i))
	}
	g.head("node_info", "gauge", "Labeled information, with an escape: C:\\\\DIR\\n and more.")
	fmt.Fprintf(g, "node_info{model=\"a \\\"b\\\" c\",path=\"C:\\\\x\\\\\",text=\"one\\ntwo\"} 1\n")
	for _, n := range words("cpu_seconds_total max_fds open_fds resident_memory_bytes start_time_seconds virtual_memory_bytes virtual_memory_max_bytes") {
		g.single("process_"+n, "gauge", "Process "+n+".")
	}
	g.head("promhttp_metric_handler_requests_total", "counter", "Total number of scrapes by HTTP status code.")
	g.series("promhttp_metric_handler_requests_total", []string{"code"}, words("200 500 503"))
	return g.Bytes()
}

// kubePage is a page in the shape of kube-state-metrics': few families, thousands of series, long label values.
// 2,015 pods make 5.8 MB.
func kubePage(seed uint64, pods int) []byte {
	g := newPageGen(seed)
	names := make([]string, pods)
	uids := make([]string, pods)
	for i := range names {
		names[i] = fmt.Sprintf("service-%03d-%08x%02x-%05x", i%200, g.r.Uint32(), i%256, g.r.Uint32()>>12)
		uids[i] = fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", g.r.Uint32(), i%65536, 0x4000, 0x8000, g.r.Uint64()>>16)
	}
	families := []struct{ name, labels string }{
		{"kube_pod_info", `host_ip="10.0.12.7",pod_ip="10.244.3.17",node="node-17.example.internal",created_by_kind="ReplicaSet",created_by_name="service",priority_class="high",host_network="false"`},
		{"kube_pod_start_time", ``}, {"kube_pod_created", ``}, {"kube_pod_owner", `owner_kind="ReplicaSet",owner_name="service-5f7d",owner_is_controller="true"`},
		{"kube_pod_labels", `label_app="service",label_team="payments",label_pod_template_hash="5f7d8c9b"`},
		{"kube_pod_status_phase", `phase="Running"`}, {"kube_pod_status_ready", `condition="true"`}, {"kube_pod_status_scheduled", `condition="true"`},
		{"kube_pod_container_info", `container="main",image_spec="registry.example/service:1.2.3",image_id="sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`},
		{"kube_pod_container_status_ready", `container="main"`}, {"kube_pod_container_status_restarts_total", `container="main"`},
		{"kube_pod_container_status_running", `container="main"`}, {"kube_pod_container_status_waiting", `container="main"`},
		{"kube_pod_container_resource_limits", `container="main",node="node-17.example.internal",resource="cpu",unit="core"`},
		{"kube_pod_container_resource_requests", `container="main",node="node-17.example.internal",resource="memory",unit="byte"`},
		{"kube_pod_restart_policy", `type="Always"`},
	}
	for _, f := range families {
		g.head(f.name, "gauge", "Information about a pod: "+f.name+".")
		for i := range names {
			fmt.Fprintf(g, "%s{namespace=\"prod-%02d\",pod=\"%s\",uid=\"%s\"", f.name, i%20, names[i], uids[i])
			if f.labels != "" {
				g.WriteString("," + f.labels)
			}
			fmt.Fprintf(g, "} %s\n", g.value())
		}
	}
	return g.Bytes()
}

// asProto returns a page in text as delimited protobuf.
func asProto(page []byte) []byte {
	p := expfmt.NewTextParser(model.UTF8Validation)
	fams, err := p.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, name := range slices.Sorted(maps.Keys(fams)) { // as client_golang does
		if err := enc.Encode(fams[name]); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

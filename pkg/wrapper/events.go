package wrapper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

var (
	_ telemetry.MessageSink = (*datagram.Sender)(nil)

	// keyRewriter makes names of labels of the keys of Kubernetes' labels.
	keyRewriter = strings.NewReplacer("-", "_", ".", "_", "/", "_")
)

// newEvents returns what sends events to METRICS_SERVER_ADDRESS; both are nil
// where there is none.
func newEvents(env *environment) (*telemetry.Events, *datagram.Sender, error) {
	if env.metricsServer == "" {
		return nil, nil, nil
	}
	sender, err := datagram.NewSender(env.metricsServer, datagram.SenderConfig{})
	if err != nil {
		return nil, nil, fmt.Errorf("environment variable METRICS_SERVER_ADDRESS: %w", err)
	}
	labels, err := eventLabels(env)
	if err != nil {
		return nil, nil, err
	}
	return telemetry.NewEvents(sender, labels), sender, nil
}

// eventLabels returns what says where an event comes from, then the extra labels;
// the first of a name counts.
func eventLabels(env *environment) ([]datagram.Label, error) {
	pod := env.podName
	if pod == "" {
		pod = os.Getenv("HOSTNAME")
	}
	if pod == "" {
		pod, _ = os.Hostname()
	}
	out := []datagram.Label{{Name: "pod", Value: pod}, {Name: "namespace", Value: os.Getenv("POD_NAMESPACE")}, {Name: "node", Value: os.Getenv("NODE_NAME")}}
	add := func(l datagram.Label) {
		if !slices.ContainsFunc(out, func(o datagram.Label) bool { return o.Name == l.Name && o.Value != "" }) {
			out = append(out, l)
		}
	}
	extra := map[string]string{}
	if env.extraLabels != "" {
		if err := json.Unmarshal([]byte(env.extraLabels), &extra); err != nil {
			return nil, errors.New("environment variable METRICS_JSON_EXTRA_LABELS: it is no JSON object of strings, such as {\"team\":\"a\"}")
		}
	}
	for _, name := range sortedKeys(extra) {
		add(datagram.Label{Name: name, Value: extra[name]})
	}
	more, err := fileLabels(env)
	if err != nil {
		return nil, err
	}
	for _, l := range more {
		add(l)
	}
	return out, nil
}

// files are what is read before anything is started.
func (e *environment) files() []string {
	return slices.DeleteFunc([]string{e.labelsFile, e.lockCA, e.lockCert, e.lockKey}, func(path string) bool { return path == "" })
}

func fileLabels(env *environment) ([]datagram.Label, error) {
	if env.labelsFile == "" {
		return nil, nil
	}
	f, err := os.Open(env.labelsFile)
	if err != nil {
		return nil, fmt.Errorf("environment variable METRICS_EXTRA_LABELS_FILE_PATH: %w", err)
	}
	defer func() { _ = f.Close() }()
	all, err := datagram.ReadLabels(f)
	if err != nil {
		return nil, fmt.Errorf("environment variable METRICS_EXTRA_LABELS_FILE_PATH: %s: %w", env.labelsFile, err)
	}
	excluded := map[string]bool{}
	for key := range strings.SplitSeq(env.labelsExclude, ",") {
		excluded[strings.TrimSpace(key)] = true
	}
	var out []datagram.Label
	for _, l := range all {
		name := keyRewriter.Replace(l.Name)
		if !excluded[l.Name] && !excluded[name] {
			out = append(out, datagram.Label{Name: name, Value: l.Value})
		}
	}
	return out, nil
}

// sendEvents sends until ctx ends, then what waits.
func (p *pod) sendEvents(ctx context.Context) {
	if p.sender == nil {
		return
	}
	p.outbox.Begin()
	_ = p.sender.Run(ctx) // it counts what it could not send
}

// lost is how many messages to the metrics server were dropped.
func (p *pod) lost() uint64 {
	if p.sender == nil {
		return 0
	}
	_, dropped := p.sender.Counts()
	return dropped
}

package preempt

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	detectTimeout = 3 * time.Second
	azureTag      = "7783-7084-3265-9085-8269-3286-77" // in the chassis of each of Azure's machines
)

// detect finds out whose machine this is: from what the firmware says, else by
// asking all three. It returns Auto when ctx ends first.
func (w *Watcher) detect(ctx context.Context) Provider {
	if p := w.firmware(); p != Auto {
		return p
	}
	c := w.newClient(w.tokens.take)
	began := time.Now()
	for round := 0; ; round++ {
		if p := w.ask(ctx, c); p != Auto || ctx.Err() != nil {
			return p
		}
		if round == 1 { // the first seconds of a pod are no test
			w.cfg.Log.Warn("no metadata server of GCE, AWS or Azure answers, still trying",
				"hint", "choose with -preemption-provider, or unset HANDLE_PREEMPTION where there is none")
		}
		if sleep(ctx, max(pause(time.Since(began)), detectTimeout)) != nil {
			return Auto
		}
	}
}

// firmware reads what the kernel knows of the hardware, without a request.
func (w *Watcher) firmware() Provider {
	read := func(name string) string {
		f, err := os.Open(filepath.Join(w.cfg.dmi, name))
		if err != nil {
			return ""
		}
		defer func() { _ = f.Close() }() // only read from
		b, _ := io.ReadAll(io.LimitReader(f, 256))
		return strings.TrimSpace(string(b))
	}
	switch {
	case strings.HasPrefix(read("product_name"), "Google"):
		return GCE
	case read("sys_vendor") == "Amazon EC2", strings.Contains(read("bios_version"), "amazon"):
		return AWS
	case read("chassis_asset_tag") == azureTag:
		return Azure
	}
	return Auto
}

// ask asks for what only one of the clouds has.
func (w *Watcher) ask(ctx context.Context, c *client) Provider {
	asked := []struct {
		p Provider
		r request
	}{
		{GCE, request{method: http.MethodGet, url: "http://" + googleHost + "/computeMetadata/v1/instance/id", header: [2]string{"Metadata-Flavor", "Google"}}},
		{AWS, request{method: http.MethodPut, url: linkLocal + tokenPath, header: [2]string{"X-aws-ec2-metadata-token-ttl-seconds", strconv.Itoa(60)}}},
		{Azure, request{method: http.MethodGet, url: linkLocal + namePath, header: [2]string{"Metadata", "true"}}},
	}
	found := make([]bool, len(asked))
	var wg sync.WaitGroup
	for i, q := range asked {
		wg.Go(func() {
			q.r.timeout = detectTimeout
			a, err := c.do(ctx, q.r)
			found[i] = err == nil && (q.p != GCE || a.flavor == "Google")
		})
	}
	wg.Wait()
	for i, q := range asked {
		if found[i] {
			return q.p
		}
	}
	return Auto
}

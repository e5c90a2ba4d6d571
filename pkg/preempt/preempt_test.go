package preempt

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsWrongWithAConfigIsSaidWithTheWayOut(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string // "" where it is good
	}{
		"nothing is set":               {Config{}, ""},
		"a URL":                        {Config{URL: "http://localhost:8989/computeMetadata/v1/instance/preempted"}, ""},
		"a URL with IPv6":              {Config{URL: "http://[::1]:8989/computeMetadata/v1/instance/preempted?timeout_sec=5"}, ""},
		"a host":                       {Config{Host: "127.0.0.1:8989"}, ""},
		"a host with IPv6":             {Config{Host: "[fd00::1]:80"}, ""},
		"AWS elsewhere":                {Config{Provider: AWS, URL: "http://[fd00:ec2::254]/"}, ""},
		"Azure elsewhere":              {Config{Provider: Azure, URL: "http://localhost:8989"}, ""},
		"an unknown cloud":             {Config{Provider: "alibaba"}, `preemption provider "alibaba" is unknown: use auto, gce, aws or azure`},
		"a URL without a scheme":       {Config{URL: "localhost:8989"}, `METADATA_URL "localhost:8989" is no URL: write http://host:port/path`},
		"a file":                       {Config{URL: "file:///etc/passwd"}, `METADATA_URL "file:///etc/passwd" is no URL`},
		"GCE's URL for AWS":            {Config{Provider: AWS, URL: "http://localhost:8989/computeMetadata/v1/instance/preempted"}, "has a path, which is for gce: for aws leave out /computeMetadata/v1/instance/preempted, or the variable"},
		"a URL as a host":              {Config{Host: "http://127.0.0.1"}, `GCE_METADATA_HOST "http://127.0.0.1" is no host`},
		"a host with a path":           {Config{Host: "127.0.0.1/x"}, `GCE_METADATA_HOST "127.0.0.1/x" is no host`},
		"too long a poll":              {Config{URL: "http://h/?timeout_sec=86400"}, "METADATA_URL: timeout_sec=86400 is not 1 to 3600 seconds"},
		"a poll that is none":          {Config{URL: "http://h/?timeout_sec=soon"}, "METADATA_URL: timeout_sec=soon is not 1 to 3600 seconds"},
		"a host where AWS is asked of": {Config{Provider: AWS, Host: "!?"}, ""}, // it is not looked at
	} {
		_, err := New(tt.cfg)
		if got := errorText(err); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, not %q", name, got, tt.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTheCloudIsFoundOut(t *testing.T) {
	const local = "169.254.169.254:80"
	for name, tt := range map[string]struct {
		addr   string
		server func(t *testing.T) server
		want   Provider
	}{
		"GCE by its name":      {googleAddr, func(t *testing.T) server { return newGoogle(t) }, GCE},
		"AWS by its token":     {local, func(t *testing.T) server { return newAmazon(t) }, AWS},
		"Azure by the machine": {local, func(t *testing.T) server { return newMicrosoft(t) }, Azure},
		"GCE without DNS":      {local, func(t *testing.T) server { return newGoogle(t) }, GCE},
		"a portal is not GCE":  {googleAddr, func(*testing.T) server { return portal{} }, Auto},
		"nothing":              {"", nil, Auto},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				if tt.server != nil {
					n.hosts[tt.addr] = tt.server(t)
					n.set("refused") // as in the first seconds of a pod
				}
				w := watch(n, Config{})
				time.Sleep(5 * time.Second)
				n.set("")
				time.Sleep(time.Minute)
				got, asked := w.Stats(), n.count()
				w.end()
				if got.Provider != tt.want || got.Up != (tt.want != Auto) {
					t.Errorf("%+v", got)
				}
				if asked > 90 || len(w.lines()) > 2 {
					t.Errorf("%d requests, %q", asked, w.lines())
				}
				if tt.want == Auto && !strings.Contains(w.log.String(), "-preemption-provider") {
					t.Errorf("%s", w.log)
				}
			})
		})
	}
}

func TestAURLMeansGCEWhateverTheMachineIs(t *testing.T) {
	for name, cfg := range map[string]Config{
		"METADATA_URL":      {URL: "http://mock.example" + preemptedPath},
		"GCE_METADATA_HOST": {Host: "mock.example", Provider: Auto},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.hosts["mock.example:80"], n.hosts[linkLocalIP+":80"] = newGoogle(t), newAmazon(t) // which would be found
			w := watch(n, cfg)
			time.Sleep(time.Minute)
			w.end()
			if got := w.Stats(); got.Provider != GCE || !got.Up || n.dialed("mock.example:80") != n.count() {
				t.Errorf("%s: %+v, %d of %d requests", name, got, n.dialed("mock.example:80"), n.count())
			}
		})
	}
}

func TestTheFirmwareSaysWhoseMachineItIs(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  Provider
	}{
		"GCE":                   {map[string]string{"product_name": "Google Compute Engine\n", "sys_vendor": "Google\n"}, GCE},
		"AWS":                   {map[string]string{"product_name": "m5.large\n", "sys_vendor": "Amazon EC2\n"}, AWS},
		"AWS with Xen":          {map[string]string{"product_name": "HVM domU\n", "sys_vendor": "Xen\n", "bios_version": "4.11.amazon\n"}, AWS},
		"Azure":                 {map[string]string{"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": azureTag + "\n"}, Azure},
		"Hyper-V on a laptop":   {map[string]string{"sys_vendor": "Microsoft Corporation\n"}, Auto},
		"a machine of nobody's": {map[string]string{"sys_vendor": "QEMU\n"}, Auto},
		"nothing":               {nil, Auto},
	} {
		w, err := New(Config{Log: slog.New(slog.DiscardHandler), dmi: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range tt.files {
			if err := os.WriteFile(filepath.Join(w.cfg.dmi, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.firmware(); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

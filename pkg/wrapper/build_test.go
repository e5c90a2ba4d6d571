package wrapper

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// Probes as Kubernetes has them reach a real server as it would be reached there.
func TestProbesOfKubernetesAskForWhatTheySay(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		good := r.URL.Path == "/health" && r.URL.RawQuery == "deep=1" && r.Host == "shop.test" && fmt.Sprint(r.Header["X-Probe"]) == "[a b]"
		if !good {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	port := func(s *httptest.Server) string {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		return u.Port()
	}
	gone := httptest.NewServer(handler)
	free := port(gone)
	gone.Close()

	const headers = `httpHeaders: [{name: Host, value: shop.test}, {name: X-Probe, value: a}, {name: x-probe, value: b}]`
	for name, test := range map[string]struct {
		probe string
		want  bool
	}{
		"a GET":                 {`httpGet: {host: 127.0.0.1, path: "/health?deep=1", port: ` + port(plain) + `, ` + headers + `}`, true},
		"a GET by https":        {`httpGet: {host: 127.0.0.1, path: "/health?deep=1", scheme: HTTPS, port: ` + port(secure) + `, ` + headers + `}`, true},
		"a GET without headers": {`httpGet: {host: 127.0.0.1, path: "/health?deep=1", port: ` + port(plain) + `}`, false},
		"a GET of another path": {`httpGet: {host: 127.0.0.1, path: /, port: ` + port(plain) + `, ` + headers + `}`, false},
		"https without TLS":     {`httpGet: {host: 127.0.0.1, path: "/health?deep=1", scheme: HTTPS, port: ` + port(plain) + `, ` + headers + `}`, false},
		"another port":          {`httpGet: {host: 127.0.0.1, path: "/health?deep=1", port: ` + free + `, ` + headers + `}`, false},
		"a socket":              {`tcpSocket: {host: 127.0.0.1, port: ` + port(plain) + `}`, true},
		"a socket of nobody":    {`tcpSocket: {host: 127.0.0.1, port: ` + free + `}`, false},
	} {
		cfg, err := spec.Parse("test", []byte("- {name: a, entrypoint: /bin/a, livenessProbe: {"+test.probe+"}}"), spec.Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, _, err := builderFor(t).process(cfg.Processes[0])
		if err != nil || len(c.Checks) != 1 {
			t.Fatalf("%s: %d checks, %v", name, len(c.Checks), err)
		}
		if err := c.Checks[0].Probe.Check(t.Context()); probe.Passed(err) != test.want {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

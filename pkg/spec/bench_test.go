package spec

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkThousandProcesses(b *testing.B) {
	var yes, js strings.Builder
	js.WriteString("[")
	for i := range 1000 {
		fmt.Fprintf(&yes, "- name: p%d\n  entrypoint: sh\n  args: [-c, sleep 1]\n  envs: {A: 1, B: 2}\n  readiness: {tcp: {socket: \":80\"}}\n", i)
		fmt.Fprintf(&js, `%s{"name": "p%d", "entrypoint": "sh", "args": ["-c", "sleep 1"], "envs": {"A": "1", "B": "2"}, "readiness": {"tcp": {"socket": ":80"}}}`, strings.Repeat(",", min(i, 1)), i)
	}
	js.WriteString("]")
	for name, text := range map[string]string{
		"yaml": yes.String(), "json": js.String(),
		"replicas": "- {name: a, entrypoint: sh, args: [-c, sleep 1], envs: {A: 1}, replicas: 1000}",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse("x", []byte(text), Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("parser alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := yamlNodes([]byte(yes.String())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

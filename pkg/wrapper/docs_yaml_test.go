package wrapper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// fragments are the keys of what is shown in part: the keys of a block must all be of one of them.
var fragments = map[string][]string{
	"pod":        {"initContainers", "containers", "volumes", "terminationGracePeriodSeconds", "shareProcessNamespace", "securityContext", "serviceAccountName"},
	"container":  {"name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", "readinessProbe", "livenessProbe", "startupProbe", "lifecycle"},
	"object":     {"metadata", "spec", "data"},
	"rules":      {"rules"},
	"prometheus": {"scrape_configs", "rule_files", "global", "groups"},
}

// kinds are apiVersion of the kinds of objects that the pages show.
var kinds = map[string]string{
	"Pod": "v1", "ConfigMap": "v1", "Service": "v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1",
	"Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
}

// values returns the keys at the top of the values of each chart.
func values(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(root + "deployment/helm/*/values.schema.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		var schema struct{ Properties map[string]any }
		if err != nil || json.Unmarshal(text, &schema) != nil || len(schema.Properties) == 0 {
			t.Fatalf("%s: %v, %d properties", file, err, len(schema.Properties))
		}
		all["values of "+filepath.Base(filepath.Dir(file))] = sortedKeys(schema.Properties)
	}
	return all
}

// checkYAML says what is wrong with a block that is no config of ours. A key that
// is there twice is refused by the decoder.
func checkYAML(text string, shapes map[string][]string) error {
	dec := yaml.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		var doc map[string]any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) && n > 0 {
			return nil
		} else if err != nil {
			return err
		}
		if err := checkShape(doc, shapes); err != nil {
			return err
		}
	}
}

func checkShape(doc map[string]any, shapes map[string][]string) error {
	keys := sortedKeys(doc)
	kind, whole := doc["kind"].(string)
	if _, versioned := doc["apiVersion"]; whole || versioned {
		if want, ok := kinds[kind]; !ok || doc["apiVersion"] != want {
			return fmt.Errorf("there is no %v of %v", kind, doc["apiVersion"])
		}
		return nil
	}
	for _, shape := range shapes {
		if len(keys) > 0 && !slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(shape, k) }) {
			return checkProcesses(doc)
		}
	}
	return fmt.Errorf("keys %v are of nothing that is known", keys)
}

// checkProcesses checks the processes of values of a chart as the config that they become.
func checkProcesses(doc map[string]any) error {
	processes, ok := doc["processes"]
	if !ok {
		return nil
	}
	text, err := yaml.Marshal(processes)
	if err != nil {
		return err
	}
	cfg, err := spec.Parse("processes", text, spec.Options{})
	if err == nil && len(cfg.Warnings) > 0 {
		err = cfg.Warnings
	}
	return err
}

func TestEveryOtherYAMLOfTheDocsHasAShapeThatIsKnown(t *testing.T) {
	shapes := values(t)
	for name, keys := range fragments {
		shapes[name] = keys
	}
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range append(pages, root+"README.md") {
		path = strings.TrimPrefix(path, root)
		for _, b := range blocks(t, path) {
			if b.lang != "yml" {
				continue
			}
			found++
			if err := checkYAML(b.text, shapes); err != nil {
				t.Errorf("%s line %d: %v", path, b.line, err)
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d blocks were found", found)
	}
	for what, text := range map[string]string{
		"nothing":                   "",
		"no YAML":                   "a: [",
		"a key twice":               "spec: {}\nspec: {}\n",
		"an unknown key":            "container: []\n",
		"keys of different things":  "rules: []\ncontainers: []\n",
		"a list":                    "- a\n",
		"another version":           "apiVersion: apps/v1beta1\nkind: Deployment\n",
		"an unknown kind":           "apiVersion: v1\nkind: Pods\n",
		"no kind":                   "apiVersion: v1\nspec: {}\n",
		"a bad second document":     "spec: {}\n---\nspecs: {}\n",
		"a process that is invalid": "processes: [{name: a, entrypont: /bin/a}]\n",
	} {
		if checkYAML(text, shapes) == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

func TestEveryKeyIsInTheSchemaAndTheDocumentation(t *testing.T) {
	defs := schema(t)["$defs"].(map[string]any)
	markdown := markdown()
	for _, path := range strings.Fields(`name entrypoint args envs envsFile dir replicas restartPolicy logFormat promTarget memoryLimitMB
		sysProcAttr.chroot sysProcAttr.credential.uid sysProcAttr.credential.gid sysProcAttr.credential.groups sysProcAttr.setsid
		sysProcAttr.setpgid sysProcAttr.pdeathsig sysProcAttr.ambientcaps postStart.sql.queries postStart.command.entrypoint
		postStart.command.args postStart.command.envs postStart.envs postStart.deadline command env envFrom workingDir
		lifecycle.postStart.exec.command lifecycle.postStart.httpGet.port lifecycle.preStop.sleep.seconds
		startupProbe.exec.command livenessProbe.httpGet.path readinessProbe.tcpSocket.port livenessProbe.grpc.service
		startupProbe.initialDelaySeconds livenessProbe.periodSeconds livenessProbe.timeoutSeconds readinessProbe.successThreshold
		readinessProbe.failureThreshold livenessProbe.terminationGracePeriodSeconds terminationGracePeriodSeconds
		securityContext.runAsUser securityContext.runAsGroup securityContext.supplementalGroups securityContext.capabilities.add
		securityContext.capabilities.drop securityContext.allowPrivilegeEscalation resources.limits.memory labels dependsOn essential
		stopSignal stopTimeout backoff.initial backoff.max backoff.factor backoff.jitter backoff.resetAfter maxRestarts.count
		maxRestarts.within user group umask nice oomScoreAdj rlimits noNewPrivs log.maxLineBytes log.rate.lines log.rate.bytes
		readiness.delay readiness.period readiness.failureThreshold readiness.startupDeadline readiness.timeout readiness.http.url
		readiness.tcp.socket readiness.file.path readiness.env.name readiness.env.value readiness.exec.command.entrypoint
		readiness.sql.queries readiness.sql.contains readiness.floatingPid.period readiness.floatingPid.threshold
		readiness.heartBeat.period readiness.amqp.reuseConn readiness.lock.ttlDuration readiness.lock.key readiness.lock.standbyReady`) {
		at := defs["process"].(map[string]any)
		for _, k := range strings.Split(path, ".") {
			next, ok := property(defs, at, k)
			if !ok {
				t.Fatalf("%s is not in the schema", path)
			}
			at = next
		}
		if !strings.Contains(markdown, "| `"+path+"` |") {
			t.Errorf("%s is not in the documentation", path)
		}
	}
}

// property returns the schema of a key of at, through references.
func property(defs, at map[string]any, key string) (map[string]any, bool) {
	for _, alt := range alternatives(defs, at) {
		if props, ok := alt["properties"].(map[string]any); ok {
			next, ok := props[key].(map[string]any)
			return next, ok
		}
	}
	return nil, false
}

func alternatives(defs, at map[string]any) []map[string]any {
	all := []map[string]any{at}
	if ref, ok := at["$ref"].(string); ok {
		all = append(all, alternatives(defs, defs[filepath.Base(ref)].(map[string]any))...)
	}
	if anyOf, ok := at["anyOf"].([]any); ok {
		for _, a := range anyOf {
			all = append(all, alternatives(defs, a.(map[string]any))...)
		}
	}
	return all
}

func TestEveryKeyOfTheSchemaIsKnownToTheDecoder(t *testing.T) {
	defs := schema(t)["$defs"].(map[string]any)
	count := 0
	var walk func(at map[string]any, path []string)
	walk = func(at map[string]any, path []string) {
		for _, alt := range alternatives(defs, at) {
			props, _ := alt["properties"].(map[string]any)
			for k, v := range props {
				count++
				below := append(slices.Clone(path), k)
				if unknown := decodeAt(below); unknown != "" {
					t.Errorf("%s: %s", strings.Join(below, "."), unknown)
				}
				walk(v.(map[string]any), below)
			}
		}
	}
	walk(defs["process"].(map[string]any), nil)
	if count < 180 {
		t.Errorf("only %d keys", count)
	}
	if decodeAt([]string{"readiness", "nope"}) == "" || decodeAt([]string{"nope"}) == "" {
		t.Error("an unknown key goes unnoticed")
	}
}

// decodeAt parses a process with one key, and returns what says that it is
// unknown.
func decodeAt(path []string) string {
	value := "7"
	for _, k := range slices.Backward(path) {
		value = fmt.Sprintf("{%q: %s}", k, value)
	}
	_, err := Parse("x", []byte("["+value+"]"), Options{})
	if err == nil || !strings.Contains(err.Error(), "unknown key") {
		return ""
	}
	return err.Error()
}

func TestDefaultsOfTheSchemaAreAccepted(t *testing.T) {
	defs := schema(t)["$defs"].(map[string]any)
	count := 0
	for name, def := range defs {
		props, _ := def.(map[string]any)["properties"].(map[string]any)
		for k, p := range props {
			if value, ok := p.(map[string]any)["default"]; ok {
				count++
				for _, fault := range validate(defs, p.(map[string]any), value, name+"."+k) {
					t.Error(fault)
				}
			}
			if len(p.(map[string]any)) > 0 && p.(map[string]any)["description"] == "" {
				t.Errorf("%s.%s has no description", name, k)
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d defaults", count)
	}
}

func TestGoodFilesFitTheSchema(t *testing.T) {
	root := schema(t)
	for _, path := range inputs(t, "good", 15) {
		for _, doc := range docsOf(t, path) {
			for _, fault := range validate(root["$defs"].(map[string]any), root, plainTree(t, doc), "") {
				t.Errorf("%s: %s", path, fault)
			}
		}
	}
}

// What an editor can show without knowing more than shapes is refused by the
// schema as well.
func TestBadShapesDoNotFitTheSchema(t *testing.T) {
	root := schema(t)
	for _, name := range []string{
		"unknown_key", "unknown_key_nested", "top_scalar", "name_missing", "name_slash", "args_string", "command_empty", "envs_list",
		"replicas_zero", "replicas_text", "nice", "stop_timeout_no_unit", "grace_unit", "log_format", "restart_policy", "backoff_jitter",
		"probe_two_handlers", "probe_no_handler", "http_no_url", "sys_ctty", "essential_yes", "labels_dots", "sql_no_queries",
	} {
		faults := 0
		for _, doc := range docsOf(t, "testdata/bad/"+name+".yaml") {
			faults += len(validate(root["$defs"].(map[string]any), root, plainTree(t, doc), ""))
		}
		if faults == 0 {
			t.Errorf("%s fits", name)
		}
	}
}

func docsOf(t *testing.T, path string) []*yaml.Node {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	docs, bad := documents(path, data)
	if bad != nil {
		t.Fatal(bad)
	}
	return docs
}

// plainTree is a document as an editor sees it.
func plainTree(t *testing.T, n *yaml.Node) any {
	t.Helper()
	var v, tree any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func schema(t *testing.T) map[string]any {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// validate is as much of JSON Schema as the schema uses. An unknown keyword is
// a fault.
func validate(defs, s map[string]any, v any, path string) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, path+": "+fmt.Sprintf(format, args...)) }
	for keyword, arg := range s {
		switch keyword {
		case "$schema", "$defs", "title", "description", "default":
		case "$ref":
			faults = append(faults, validate(defs, defs[filepath.Base(arg.(string))].(map[string]any), v, path)...)
		case "anyOf", "oneOf":
			var all []string
			fits := 0
			for _, alt := range arg.([]any) {
				below := validate(defs, alt.(map[string]any), v, path)
				if all = append(all, below...); len(below) == 0 {
					fits++
				}
			}
			if fits == 0 || keyword == "oneOf" && fits > 1 {
				fault("%d of %s fit: %s", fits, keyword, strings.Join(all, "; "))
			}
		case "type":
			if !hasType(arg, v) {
				fault("%v is not %v", v, arg)
			}
		case "enum":
			if !slices.Contains(arg.([]any), v) {
				fault("%v is not in %v", v, arg)
			}
		default:
			if !validateMore(defs, s, keyword, arg, v, path, &faults) {
				fault("%s: %v does not fit %v", keyword, v, arg)
			}
		}
	}
	return faults
}

func hasType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return hasType(w, v) })
	}
	switch x := v.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && x == math.Trunc(x)
	case string:
		return want == "string"
	case []any:
		return want == "array"
	}
	return want == "object"
}

func validateMore(defs, s map[string]any, keyword string, arg, v any, path string, faults *[]string) bool {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch keyword {
	case "pattern", "minLength", "maxLength", "minimum", "maximum":
		return validateScalar(keyword, arg, v)
	case "minItems":
		return !isList || float64(len(list)) >= arg.(float64)
	case "items":
		for i, e := range list {
			*faults = append(*faults, validate(defs, arg.(map[string]any), e, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return true
	case "required":
		return !isObject || !slices.ContainsFunc(arg.([]any), func(k any) bool { _, ok := object[k.(string)]; return !ok })
	case "propertyNames":
		for k := range object {
			*faults = append(*faults, validate(defs, arg.(map[string]any), k, path+"."+k)...)
		}
		return true
	case "properties":
		for k, p := range arg.(map[string]any) {
			if e, ok := object[k]; ok {
				*faults = append(*faults, validate(defs, p.(map[string]any), e, path+"."+k)...)
			}
		}
		return true
	case "patternProperties":
		return true // x- keys, see additionalProperties
	case "additionalProperties":
		return additional(defs, s, arg, object, path, faults)
	}
	return false
}

func validateScalar(keyword string, arg, v any) bool {
	text, isText := v.(string)
	num, isNum := v.(float64)
	switch keyword {
	case "pattern":
		return !isText || regexp.MustCompile(arg.(string)).MatchString(text)
	case "minLength":
		return !isText || float64(utf8.RuneCountInString(text)) >= arg.(float64)
	case "maxLength":
		return !isText || float64(utf8.RuneCountInString(text)) <= arg.(float64)
	case "minimum":
		return !isNum || num >= arg.(float64)
	}
	return !isNum || num <= arg.(float64)
}

func additional(defs, s map[string]any, arg any, object map[string]any, path string, faults *[]string) bool {
	props, _ := s["properties"].(map[string]any)
	patterns, _ := s["patternProperties"].(map[string]any)
	for k, e := range object {
		if _, ok := props[k]; ok || strings.HasPrefix(k, "x-") && patterns != nil {
			continue
		}
		if arg == false {
			*faults = append(*faults, path+"."+k+": unknown")
			continue
		}
		*faults = append(*faults, validate(defs, arg.(map[string]any), e, path+"."+k)...)
	}
	return true
}

package spec

// notYet is the one list of keys that parse, default and validate now, and
// whose runtime comes with a later version. A config that uses one is refused
// unless Options.Later is set.
func notYet() map[string]bool {
	return map[string]bool{
		"readiness.sql":         true,
		"readiness.amqp":        true,
		"readiness.heartBeat":   true,
		"readiness.floatingPid": true,
		"readiness.lock":        true,
		"postStart.sql":         true,
		"startupProbe.grpc":     true,
		"livenessProbe.grpc":    true,
		"readinessProbe.grpc":   true,
	}
}

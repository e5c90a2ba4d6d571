// Package sinktest is what tests of sinks share: a real VictoriaLogs that can be killed and paused,
// a proxy that fails, and a process that can be killed while it puts events.
package sinktest

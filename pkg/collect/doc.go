// Package collect receives messages of package datagram and keeps what they say
// as series for Prometheus, or passes them on to sinks.
//
//	socket ─▶ reader ─(registry free)────────────────▶ decode ─▶ Registry ─▶ /metrics
//	             └────(busy)─▶ bounded queue ─▶ worker ─▶ │ └──▶ sinks
//
// A reader never waits for the registry. Every message ends in exactly one
// count: applied, malformed, rejected, or dropped by a queue; what the kernel
// dropped before is a count too.
package collect

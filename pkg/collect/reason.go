package collect

// reason is why a message that is well formed was not applied, or why one was
// not even read.
type reason uint8

const (
	typeConflict reason = iota + 1
	labelConflict
	reservedLabel
	seriesLimit
	nameLimit
	bytesLimit
	overflow
	unsupported
	shutdownOff
	noSink
	sinkFull
	duplicate
	// Before a message is read:
	queueFull
	cutOff
	tooLong
	notAllowed
	rateLimit
	reasons
)

var reasonNames = [reasons]string{
	typeConflict: "type_conflict", labelConflict: "label_conflict", reservedLabel: "reserved_label",
	seriesLimit: "series_limit", nameLimit: "name_limit", bytesLimit: "bytes_limit", overflow: "overflow",
	unsupported: "unsupported", shutdownOff: "shutdown_not_allowed", noSink: "no_sink", sinkFull: "sink_full", duplicate: "duplicate",
	queueFull: "queue_full", cutOff: "truncated", tooLong: "too_long", notAllowed: "source_not_allowed", rateLimit: "rate_limit",
}

// kind groups reasons by what became of the message.
func (r reason) kind() string {
	switch {
	case r == queueFull:
		return "queue"
	case r == cutOff || r == tooLong:
		return "malformed"
	}
	return "rejected"
}

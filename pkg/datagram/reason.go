package datagram

// Reason is why a message was refused. There are few, so that they fit into a
// label.
type Reason uint8

// The reasons.
const (
	Syntax    Reason = iota + 1 // no JSON
	Truncated                   // ends before its end
	Type                        // a key has a value of another type
	UTF8                        // a string is no UTF-8
	Name                        // missing, or longer than 512 bytes
	Operation                   // unknown, or missing
	Value                       // too large for a float64
	Negative                    // a counter cannot go down
	Labels                      // more than 64, an empty name, or more than 4096 bytes in one
	Reserved                    // le, quantile or __* is a label of a metric
	BucketDef                   // buckets that make no sense
	TimeDef                     // a timestamp that is none, or before 1970 or after 2200
	TTLDef                      // a ttl that is none, or not above zero
	IndexName                   // an index that is no name of one
	IDDef                       // an id of more than 256 bytes
	Sample                      // a statsd rate that is none, or a type that is not supported
	reasons
)

var reasonNames = [reasons]string{
	Syntax: "syntax", Truncated: "truncated", Type: "type", UTF8: "utf8", Name: "name", Operation: "op", Value: "value",
	Negative: "negative", Labels: "labels", Reserved: "reserved_label", BucketDef: "buckets", TimeDef: "timestamp", TTLDef: "ttl",
	IndexName: "index", IDDef: "id", Sample: "sample",
}

// Reasons returns all reasons.
func Reasons() []Reason {
	out := make([]Reason, 0, reasons-1)
	for r := Syntax; r < reasons; r++ {
		out = append(out, r)
	}
	return out
}

// Error returns the name of the reason in one word.
func (r Reason) Error() string {
	if r == 0 || r >= reasons {
		return "unknown"
	}
	return reasonNames[r]
}

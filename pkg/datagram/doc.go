// Package datagram is the wire format of metrics and events, for those who
// send and for those who receive.
//
// A message is one JSON object. All keys but name and op may be left out:
//
//	name       string               of the metric or event
//	op         string               inc | set | obs | event | index | raw | shutdown
//	labels     {string: string}     [] is read as none, as PHP writes it
//	value      number               0
//	help       string
//	timestamp  string or number     RFC 3339, or Unix time in s, ms, µs or ns
//	index      string               of op index: [a-z0-9._-], no leading "-", "_", "+" or "."
//	id         string               equal ids are one message
//	ttl        string or number     "90s", or seconds
//	native     bool                 of op obs: a native histogram
//	buckets    whole number         of op obs, see [Buckets]
//	bucket_width bucket_start bucket_factor bucket_min bucket_max   numbers
//	bucket_custom                   [number], ascending
//
// Other keys are ignored, a null counts as left out (but labels must not be
// null), and of equal keys the last one counts. Several messages may follow one
// another, with white space or commas between them, or as an array.
//
// What is wrong in one message costs that message only. Where a message is no
// JSON at all, its end is where its braces balance, else the next line that
// begins with a brace, else the end of the input. What is no object ends at a
// comma, a closing bracket or the end of its line.
package datagram

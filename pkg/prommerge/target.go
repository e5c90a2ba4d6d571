package prommerge

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Target is a page to merge.
type Target struct {
	Name    string            // value of the label process_name; one target each
	URL     string            // of the page
	Labels  map[string]string // added to all series, beside process_name
	Timeout time.Duration     // 0: that of Options
	Header  http.Header       // sent with the request
	Client  *http.Client      // nil: that of Options

	// Open, where it is set, is used instead of a request to URL. It returns a page in one of the formats of
	// accept with its Content-Type.
	Open func(ctx context.Context, accept string) (body io.ReadCloser, contentType string, err error)
}

// Result is what a target did in one merge.
type Result struct {
	Name, URL string
	Up        bool   // it has its part in the page
	Reason    string // why it is not up, in a word
	Err       error  // … and in full
	Start     time.Time
	Duration  time.Duration
	Samples   int   // lines with a value, or protobuf metrics
	Bytes     int64 // of its page, decompressed

	text bool // the page was in text
}

// Package search is the sink that writes events to Elasticsearch or OpenSearch by _bulk, or to what
// takes such requests.
//
// # Documents
//
// A document is the event in the wire format, see sink.AppendEvent; with Config.DataStream it has a
// field @timestamp as well. Its _id is the event's id, so an event that was sent twice is stored
// once; an event without one gets one here, so that a request that is repeated after a lost answer
// does not store it again. The operation is always create.
//
// # Answers
//
// The answer of _bulk is believed only when it is a 200, whole JSON, and has exactly one item for
// each document, in their order, each with a status. Anything else means that nobody knows, and all
// is sent again: an empty 200 and an answer with too few items do happen. Of each item:
//
//	2xx            sent
//	409            sent: this id is there already
//	429, 5xx       sent again, with back-off
//	any status with cluster_block_exception: sent again (an index is read-only while the disk is full)
//	other          dead letter, with the store's reason
//
// And of whole requests: 408, 429, 5xx, 3xx and no answer: sent again, no earlier than Retry-After
// (up to the longest back-off); 400 and 413: the halves are sent on their own; other 4xx: dead letters.
//
// # Index template
//
// Before the first documents the template metrics-server-INDEX is installed, unless there is one: 1 shard
// (configurable), timestamp as a date, labels as keywords (or flattened). A store that knows no
// templates is left alone.
package search

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// New checks c. It touches neither network nor files.
func New(c Config) (*sink.Sink, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	bulk, template, err := c.urls()
	if err != nil {
		return nil, err
	}
	return sink.New(c.Sink, &backend{
		config: c, bulkURL: bulk, templateURL: template, run: rand.Text(), templated: c.NoTemplate,
	})
}

type backend struct {
	config               Config
	bulkURL, templateURL string
	run                  string // with count it makes ids
	count                atomic.Uint64

	client    *http.Client
	templated bool
	body      []byte // of the request
	answer    []byte
}

const maxID = 512 // bytes, of both stores

// Encode makes the key, the name of the index.
func (b *backend) Encode(m *datagram.Message, r *sink.Record) error {
	index := b.config.Index
	if m.Op == datagram.Index && m.Index != "" {
		index = m.Index
		if err := checkIndex(index); err != nil {
			return fmt.Errorf("%w: index %.100q: %v", sink.ErrRefused, index, err)
		}
		if !b.config.allows(index) {
			return fmt.Errorf("%w: index %.100q does not match the pattern %q", sink.ErrRefused, index, b.config.Pattern)
		}
	}
	r.Time = m.Time
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Key = append(r.Key, index...)
	if !b.config.DataStream {
		r.Key = r.Time.UTC().AppendFormat(append(r.Key, '-'), time.DateOnly)
	}
	switch {
	case m.ID == "":
		r.ID = append(append(r.ID, b.run...), '-')
		r.ID = strconv.AppendUint(r.ID, b.count.Add(1), 36)
	case len(m.ID) > maxID:
		sum := sha256.Sum256([]byte(m.ID))
		r.ID = hex.AppendEncode(r.ID, sum[:])
	default:
		r.ID = append(r.ID, m.ID...)
	}
	r.Body = sink.AppendEvent(r.Body, m, r.Time)
	if b.config.DataStream {
		r.Body = append(r.Body, `,"@timestamp":"`...)
		r.Body = append(r.Time.UTC().AppendFormat(r.Body, time.RFC3339Nano), '"')
	}
	r.Body = append(r.Body, '}')
	return nil
}

// Open reads the CA file.
func (b *backend) Open() error {
	t, err := b.config.tls()
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = t
	b.client = &http.Client{
		Transport: transport,
		// A POST would become a GET, and its 200 an acknowledgement.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// Close closes idle connections.
func (b *backend) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

// appendBulk appends the action line and the document of r.
func appendBulk(dst []byte, r *sink.Record) []byte {
	dst = append(dst, `{"create":{"_index":`...)
	dst = sink.AppendString(dst, r.Key)
	dst = append(dst, `,"_id":`...)
	dst = sink.AppendString(dst, r.ID)
	dst = append(dst, "}}\n"...)
	dst = append(dst, r.Body...)
	return append(dst, '\n')
}

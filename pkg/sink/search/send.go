package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// Send sends records as one request.
func (b *backend) Send(ctx context.Context, records []sink.Record, answers []sink.Answer) sink.Outcome {
	if !b.templated {
		if err := b.install(ctx); err != nil {
			return all(answers, sink.Retry, sink.Outcome{Err: err, Down: true})
		}
		b.templated = true
	}
	b.body = b.body[:0]
	for i := range records {
		b.body = appendBulk(b.body, &records[i])
	}
	status, header, err := b.do(ctx, http.MethodPost, b.bulkURL, b.body, 64<<10+int64(len(records))*4<<10)
	if err != nil {
		return all(answers, sink.Retry, sink.Outcome{Err: err, Down: true})
	}
	if status != http.StatusOK {
		return b.refused(status, header, answers)
	}
	if err := judge(b.answer, answers); err != nil {
		return all(answers, sink.Retry, sink.Outcome{Err: err, Down: true})
	}
	return sink.Outcome{Err: firstRetry(answers)}
}

// refused is about a request that was answered by other than 200.
func (b *backend) refused(status int, header http.Header, answers []sink.Answer) sink.Outcome {
	err := fmt.Errorf("bulk request: status %d: %s", status, excerpt(b.answer))
	switch {
	case retriable(status) || status < 400:
		return all(answers, sink.Retry, sink.Outcome{Err: err, Down: true, RetryAfter: retryAfter(header)})
	case len(answers) > 1 && (status == http.StatusRequestEntityTooLarge || status == http.StatusBadRequest):
		return sink.Outcome{Err: err, Split: true}
	}
	for i := range answers {
		answers[i] = sink.Answer{Verdict: sink.Dead, Reason: err.Error()}
	}
	return sink.Outcome{}
}

func all(answers []sink.Answer, v sink.Verdict, out sink.Outcome) sink.Outcome {
	for i := range answers {
		answers[i] = sink.Answer{Verdict: v}
	}
	return out
}

func retriable(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func firstRetry(answers []sink.Answer) error {
	for _, a := range answers {
		if a.Verdict == sink.Retry {
			return errors.New(a.Reason)
		}
	}
	return nil
}

// retryAfter reads the header as seconds; a date means no wish.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// do makes a request and reads up to limit bytes of its answer into b.answer.
func (b *backend) do(ctx context.Context, method, url string, body []byte, limit int64) (int, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-ndjson")
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if b.config.User != "" || b.config.Password != "" {
		req.SetBasicAuth(b.config.User, b.config.Password)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	buf := bytes.NewBuffer(b.answer[:0])
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	b.answer = buf.Bytes()
	if err != nil {
		return 0, nil, fmt.Errorf("read answer: %w", err)
	}
	if n > limit {
		return 0, nil, fmt.Errorf("answer of status %d has more than %d bytes", resp.StatusCode, limit)
	}
	return resp.StatusCode, resp.Header, nil
}

// item is what a bulk answer says about one document.
type item struct {
	Status int `json:"status"`
	Error  struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
	} `json:"error"`
}

// judge reads the answer to a bulk request of as many documents as there are answers. After an
// error nothing in it is to be believed.
func judge(answer []byte, answers []sink.Answer) error {
	var reply struct {
		Items []map[string]item `json:"items"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("bulk answer: %w: %s", err, excerpt(answer))
	}
	if len(reply.Items) != len(answers) {
		return fmt.Errorf("bulk answer: %d items for %d documents: %s", len(reply.Items), len(answers), excerpt(answer))
	}
	for i, it := range reply.Items {
		created, ok := it["create"]
		if !ok || len(it) != 1 || created.Status < 200 || created.Status > 599 {
			return fmt.Errorf("bulk answer: item %d is none of a create: %s", i, excerpt(answer))
		}
		answers[i] = created.answer()
	}
	return nil
}

func (it *item) answer() sink.Answer {
	switch {
	case it.Status < 300, it.Status == http.StatusConflict:
		return sink.Answer{}
	case retriable(it.Status), it.Status < 400, it.Error.Type == "cluster_block_exception":
		return sink.Answer{Verdict: sink.Retry, Reason: it.String()}
	}
	return sink.Answer{Verdict: sink.Dead, Reason: it.String()}
}

func (it *item) String() string {
	return fmt.Sprintf("status %d: %.64s: %.512s", it.Status, it.Error.Type, it.Error.Reason)
}

// excerpt is the start of an answer, for logs.
func excerpt(b []byte) string {
	if len(b) == 0 {
		return "(empty)"
	}
	return fmt.Sprintf("%.256q", b)
}

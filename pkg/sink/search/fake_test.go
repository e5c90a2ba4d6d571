package search

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// fake is a strict store: it refuses whatever Elasticsearch or OpenSearch would refuse of what a
// sink can get wrong, and is told what to answer to each document.
type fake struct {
	t *testing.T

	// item answers for a document; nil: it is created, or there already.
	item func(index, id string, doc map[string]any) (status int, kind, reason string)
	// spoil may change the answer of _bulk, for the n-th request from 0.
	spoil func(n int, answer string) (status int, header http.Header, body string)
	// template answers to PUT of the template; 0 is 200.
	template int

	mu        sync.Mutex
	docs      map[string]map[string]any // by index/id
	requests  int
	templates []string // method path body
	auth      []string
	tries     map[string]int // of each document
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, docs: map[string]map[string]any{}, tries: map[string]int{}}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	user, password, _ := r.BasicAuth()
	f.auth = append(f.auth, user+":"+password)
	if strings.HasPrefix(r.URL.Path, "/_index_template/") {
		f.templates = append(f.templates, r.Method+" "+r.URL.Path+" "+string(body))
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
		case f.template != 0:
			w.WriteHeader(f.template)
		}
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/_bulk" || r.Header.Get("Content-Type") != "application/x-ndjson" {
		f.t.Errorf("%s %s %s", r.Method, r.URL, r.Header)
		http.Error(w, "no", http.StatusMethodNotAllowed)
		return
	}
	answer, err := f.bulk(string(body))
	if err != nil {
		f.t.Errorf("bulk request: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := f.requests
	f.requests++
	status := http.StatusOK
	if f.spoil != nil {
		var header http.Header
		status, header, answer = f.spoil(n, answer)
		for k, v := range header {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func (f *fake) bulk(body string) (string, error) {
	if !strings.HasSuffix(body, "\n") {
		return "", fmt.Errorf("must end with a newline")
	}
	var items []string
	lines := bufio.NewScanner(strings.NewReader(body))
	lines.Buffer(nil, 2<<20)
	for lines.Scan() {
		var action map[string]map[string]string
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil || len(action) != 1 || len(action["create"]) != 2 {
			return "", fmt.Errorf("action %s: %v", lines.Text(), err)
		}
		if !lines.Scan() {
			return "", fmt.Errorf("action without a document")
		}
		var doc map[string]any
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			return "", fmt.Errorf("document %s: %v", lines.Text(), err)
		}
		items = append(items, f.create(action["create"]["_index"], action["create"]["_id"], doc))
	}
	return fmt.Sprintf(`{"took":1,"errors":true,"items":[%s]}`, strings.Join(items, ",")), lines.Err()
}

func (f *fake) create(index, id string, doc map[string]any) string {
	key := index + "/" + id
	f.tries[key]++
	status, kind, reason := 201, "", ""
	if f.item != nil {
		status, kind, reason = f.item(index, id, doc)
	}
	if f.docs[key] != nil && status < 300 {
		status, kind, reason = 409, "version_conflict_engine_exception", "document already exists"
	}
	if status < 300 {
		f.docs[key] = doc
	}
	detail := ""
	if kind != "" {
		b, _ := json.Marshal(map[string]string{"type": kind, "reason": reason})
		detail = `,"error":` + string(b)
	}
	return fmt.Sprintf(`{"create":{"_index":%q,"_id":%q,"status":%d%s}}`, index, id, status, detail)
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.docs)
}

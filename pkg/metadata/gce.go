package metadata

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const gceBase = "/computeMetadata/v1"

// query is what the parameters of a request ask for.
type query struct {
	recursive  bool
	wait       bool
	alt        string // json, text or empty
	etag       string // last_etag
	hasEtag    bool
	timeout    time.Duration
	hasTimeout bool
}

// parseQuery reads the parameters; unknown ones are left alone, as the real server does.
func parseQuery(values url.Values) (q query, err error) {
	q.recursive = isTrue(values.Get("recursive"))
	q.wait = isTrue(values.Get("wait_for_change"))
	q.alt = values.Get("alt")
	if !slices.Contains([]string{"", "json", "text"}, q.alt) {
		return q, fmt.Errorf("alt is %q: use json or text", q.alt)
	}
	q.etag, q.hasEtag = values.Get("last_etag"), values.Has("last_etag")
	if values.Has("timeout_sec") {
		seconds, err := strconv.ParseUint(values.Get("timeout_sec"), 10, 31)
		if err != nil {
			return q, fmt.Errorf("timeout_sec is %q: use a number of seconds", values.Get("timeout_sec"))
		}
		q.timeout, q.hasTimeout = time.Duration(seconds)*time.Second, true
	}
	return q, nil
}

// check says what a directory that is not recursive cannot give.
func (q query) check(isDir bool) error {
	switch {
	case !isDir || q.recursive:
		return nil
	case q.alt != "":
		return errors.New("alt is for values, and for directories with recursive=true")
	case q.wait:
		return errors.New("wait_for_change on a directory needs recursive=true")
	}
	return nil
}

func isTrue(s string) bool {
	switch strings.ToLower(s) {
	case "true", "on", "yes", "1":
		return true
	}
	return false
}

// serveGCE answers as the metadata server of Compute Engine.
func (s *Server) serveGCE(w http.ResponseWriter, r *http.Request, quick bool) {
	h := w.Header()
	h.Set("Metadata-Flavor", "Google")
	h.Set("Server", "Metadata Server for VM")
	h.Set("X-XSS-Protection", "0")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	path := r.URL.Path
	switch {
	case len(r.Header.Values("X-Forwarded-For")) > 0:
		page(w, http.StatusForbidden, "Your client does not have permission to get URL <code>"+html.EscapeString(path)+
			"</code> from this server. Requests with an X-Forwarded-For header are refused.")
	case path == "/":
		text(w, "computeMetadata/\n")
	case r.Header.Get("Metadata-Flavor") != "Google":
		page(w, http.StatusForbidden, "Your client does not have permission to get URL <code>"+html.EscapeString(path)+
			"</code> from this server. Missing Metadata-Flavor:Google header.")
	case r.Method == http.MethodPut && strings.HasPrefix(path, gceBase+"/"+pathGuest+"/"):
		s.putGuest(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		page(w, http.StatusMethodNotAllowed, "The request method <code>"+html.EscapeString(r.Method)+"</code> is inappropriate for the URL <code>"+html.EscapeString(path)+"</code>.")
	case path == "/computeMetadata" || path == gceBase:
		redirect(w, r)
	case path == "/computeMetadata/":
		text(w, "v1/\n")
	case strings.HasPrefix(path, gceBase+"/"):
		s.serveKey(w, r, strings.TrimPrefix(path, gceBase+"/"), quick)
	default:
		s.notFound(w, path)
	}
}

// serveKey answers for a path below the base. A quick answer does not wait.
func (s *Server) serveKey(w http.ResponseWriter, r *http.Request, path string, quick bool) {
	key, slash := strings.CutSuffix(path, "/")
	q, qerr := parseQuery(r.URL.Query())
	s.mu.Lock()
	n := s.tree.find(key)
	isDir := n != nil && n.isDir()
	s.mu.Unlock()
	slash = slash || path == ""
	if qerr == nil {
		qerr = q.check(isDir)
	}
	if strings.HasSuffix(key, "/identity") && r.URL.Query().Get("audience") == "" {
		qerr = errors.New("non-empty audience parameter required")
	}
	switch {
	case n == nil, !isDir && slash:
		s.notFound(w, r.URL.Path)
	case isDir && !slash:
		redirect(w, r)
	case qerr != nil:
		page(w, http.StatusBadRequest, html.EscapeString(qerr.Error()))
	default:
		q.wait = q.wait && !quick
		s.answer(w, r, key, q)
	}
}

// answer waits where it must, and writes the value.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, key string, q query) {
	v, err := s.await(r.Context(), key, q)
	switch {
	case errors.Is(err, errNoKey):
		s.notFound(w, r.URL.Path)
		return
	case errors.Is(err, errTooMany):
		page(w, http.StatusServiceUnavailable, html.EscapeString(err.Error()))
		return
	case err != nil: // the client left, or we end
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", v.mime)
	w.Header().Set("Etag", v.etag)
	w.Header().Set("Content-Length", strconv.Itoa(len(v.body)))
	_, _ = w.Write(v.body)
}

// await returns the view of a key, after a change where q says so.
func (s *Server) await(ctx context.Context, key string, q query) (view, error) {
	v, err := s.look(key, q)
	if err != nil || !q.wait || q.hasEtag && v.etag != q.etag {
		return v, err
	}
	if err := s.enterWait(); err != nil {
		return v, err
	}
	defer s.leaveWait()
	var timeout <-chan time.Time
	if q.hasTimeout {
		t := time.NewTimer(q.timeout)
		defer t.Stop()
		timeout = t.C
	}
	for {
		select {
		case <-v.changed:
			v, err = s.look(key, q)
			if err != nil || !q.hasEtag || v.etag != q.etag {
				return v, err
			}
		case <-timeout:
			return s.look(key, q)
		case <-ctx.Done():
			return v, context.Cause(ctx)
		case <-s.ctx.Done():
			return v, context.Cause(s.ctx)
		}
	}
}

// look renders a key as it is now.
func (s *Server) look(key string, q query) (view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.tree.find(key)
	if n == nil {
		return view{}, errNoKey
	}
	v := n.render(key, q)
	if q.wait {
		v.changed = n.watch()
	}
	return v, nil
}

// putGuest takes a guest attribute: instance/guest-attributes/NAMESPACE/KEY.
func (s *Server) putGuest(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, gceBase+"/")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
	if err == nil {
		if strings.Count(key, "/") != 3 {
			err = errors.New("a guest attribute has a namespace and a key: guest-attributes/NAMESPACE/KEY")
		} else {
			err = s.Set(key, string(body))
		}
	}
	if err != nil {
		page(w, http.StatusBadRequest, html.EscapeString(err.Error()))
		return
	}
	w.WriteHeader(http.StatusOK)
}

// redirect adds the slash that a directory needs.
func redirect(w http.ResponseWriter, r *http.Request) {
	target := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
	w.Header().Set("Location", target.String())
	w.Header().Set("Content-Type", mimeText)
	w.WriteHeader(http.StatusMovedPermanently)
	_, _ = io.WriteString(w, r.URL.Path+"/\n")
}

func (s *Server) notFound(w http.ResponseWriter, path string) {
	if s.config.Personality == GKEWorkloadIdentity {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "Not Found\n")
		return
	}
	page(w, http.StatusNotFound, "The requested URL <code>"+html.EscapeString(path)+"</code> was not found on this server.")
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", mimeText)
	w.Header().Set("Etag", tag([]byte(body)))
	_, _ = io.WriteString(w, body)
}

// page writes an error as the real server does: a page for people.
func page(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=en>\n<title>Error %d (%s)!!1</title>\n<p><b>%d.</b> That is an error.\n<p>%s\n",
		status, http.StatusText(status), status, message)
}

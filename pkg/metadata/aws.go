package metadata

import (
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	awsTTL      = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	awsToken    = "X-Aws-Ec2-Metadata-Token"
	awsMaxTTL   = 21600
	awsMaxToken = 10_000
	awsTime     = "2006-01-02T15:04:05Z"
)

// serveAWS answers as the instance metadata service of EC2, version 2 only.
func (s *Server) serveAWS(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Content-Type", "text/plain")
	path := strings.TrimPrefix(r.URL.Path, "/latest")
	switch {
	case path == r.URL.Path:
		awsError(w, http.StatusNotFound)
	case path == "/api/token":
		s.serveToken(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		awsError(w, http.StatusMethodNotAllowed)
	case !s.authorized(r.Header.Get(awsToken)):
		awsError(w, http.StatusUnauthorized)
	default:
		body, known := s.awsValue(strings.TrimPrefix(path, "/"))
		if !known {
			awsError(w, http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, body)
	}
}

// serveToken gives a session token.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(awsTTL))
	switch {
	case r.Method != http.MethodPut:
		w.Header().Set("Allow", "OPTIONS, PUT")
		awsError(w, http.StatusMethodNotAllowed)
		return
	case len(r.Header.Values("X-Forwarded-For")) > 0:
		awsError(w, http.StatusForbidden)
		return
	case err != nil || ttl < 1 || ttl > awsMaxTTL:
		awsError(w, http.StatusBadRequest)
		return
	}
	token := rand.Text()
	now := time.Now()
	s.mu.Lock()
	if len(s.tokens) >= awsMaxToken {
		clear(s.tokens) // clients get a new one after a 401
	}
	s.tokens[token] = now.Add(time.Duration(ttl) * time.Second)
	s.mu.Unlock()
	w.Header().Set(awsTTL, strconv.Itoa(ttl))
	_, _ = io.WriteString(w, token)
}

func (s *Server) authorized(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, known := s.tokens[token]
	return known && time.Now().Before(end)
}

// awsValue returns a value, or the names in a directory.
func (s *Server) awsValue(path string) (string, bool) {
	s.mu.Lock()
	values := s.awsValues()
	s.mu.Unlock()
	if value, known := values[path]; known {
		return value, true
	}
	prefix := path
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	var names []string
	for at := range values {
		if rest, below := strings.CutPrefix(at, prefix); below {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n"), len(names) > 0
}

// awsValues are all values, by path below /latest/.
func (s *Server) awsValues() map[string]string {
	values := map[string]string{
		"meta-data/ami-id":                      "ami-0123456789abcdef0",
		"meta-data/hostname":                    "ip-10-0-0-10.ec2.internal",
		"meta-data/instance-id":                 "i-0123456789abcdef0",
		"meta-data/instance-life-cycle":         "spot",
		"meta-data/instance-type":               "m7g.large",
		"meta-data/local-hostname":              "ip-10-0-0-10.ec2.internal",
		"meta-data/local-ipv4":                  "10.0.0.10",
		"meta-data/placement/availability-zone": "us-east-1a",
		"meta-data/placement/region":            "us-east-1",
	}
	n := s.notice
	if n.action != "" {
		at := n.deadline.UTC().Format(awsTime)
		values["meta-data/spot/instance-action"] = `{"action":"` + n.action + `","time":"` + at + `"}`
		if n.action == "terminate" {
			values["meta-data/spot/termination-time"] = at
		}
	}
	if !n.rebalance.IsZero() {
		values["meta-data/events/recommendations/rebalance"] = `{"noticeTime":"` + n.rebalance.UTC().Format(awsTime) + `"}`
	}
	return values
}

// awsError writes an error page.
func awsError(w http.ResponseWriter, status int) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	text := strconv.Itoa(status) + " - " + http.StatusText(status)
	_, _ = io.WriteString(w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>"+text+"</title></head>\n<body><h1>"+text+"</h1></body>\n</html>\n")
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// askTimeout bounds what a subcommand asks, waiting for a lock apart.
const askTimeout = 10 * time.Second

// refusal is an answer of the server that is not a success.
type refusal struct {
	status int
	code   string
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("the server says %d: %s", r.status, r.text) }

// client speaks /v1.
type client struct {
	remote
	http   *http.Client
	bearer string
}

func (r remote) client() (*client, error) {
	c := &client{remote: r, http: &http.Client{}}
	if u, err := url.Parse(r.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, cli.Usagef("-shared-lock-url %q is no URL: write http://host:8191", r.URL)
	}
	c.URL = strings.TrimSuffix(r.URL, "/")
	if r.TokenFile != "" {
		text, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return nil, cli.Usagef("read token: %w", err)
		}
		c.bearer = strings.TrimSpace(string(text))
	}
	if r.CACert != "" || r.Cert != "" || r.Key != "" {
		t, err := clientTLS(tlsFiles{r.CACert, r.Cert, r.Key}, tlsFiles{"-ca-cert", "-cert", "-key"})
		if err != nil {
			return nil, cli.Usagef("%w", err)
		}
		c.http.Transport = &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	return c, nil
}

// do asks, and decodes a success into out unless that is nil.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	if c.Namespace != "" {
		req.Header.Set("X-Lock-Namespace", c.Namespace)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var e struct {
			Error struct{ Code, Message string }
		}
		if json.Unmarshal(text, &e) != nil || e.Error.Code == "" {
			e.Error.Message = strings.TrimSpace(string(text[:min(len(text), 200)]))
		}
		return &refusal{resp.StatusCode, e.Error.Code, e.Error.Message}
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

func lockPath(key string) string { return "/v1/locks/" + url.PathEscape(key) }

// lockInfo is what the server tells of a lock.
type lockInfo struct {
	Key     string `json:"key"`
	Waiters int    `json:"waiters"`
	Holders []struct {
		Owner       string            `json:"owner"`
		Host        string            `json:"host"`
		Pod         string            `json:"pod"`
		Labels      map[string]string `json:"labels"`
		AcquiredAt  time.Time         `json:"acquiredAt"`
		RemainingMs *int64            `json:"remainingMs"`
		Slot        int               `json:"slot"`
	} `json:"holders"`
}

type lsCmd struct {
	remote
	JSON   bool   `help:"print the server's JSON" name:"json"`
	Prefix string `arg:"" optional:"" help:"only keys that begin so"`
}

func (l *lsCmd) run(ctx context.Context, call *cli.Call) error {
	var list struct {
		Locks []lockInfo `json:"locks"`
	}
	return l.show(ctx, call, "/v1/locks?prefix="+url.QueryEscape(l.Prefix), l.JSON, &list, func() []lockInfo { return list.Locks })
}

type inspectCmd struct {
	remote
	JSON bool   `help:"print the server's JSON" name:"json"`
	Name string `arg:"" name:"key" help:"the lock"`
}

func (i *inspectCmd) run(ctx context.Context, call *cli.Call) error {
	var info lockInfo
	err := i.show(ctx, call, lockPath(i.Name), i.JSON, &info, func() []lockInfo { return []lockInfo{info} })
	var r *refusal
	if errors.As(err, &r) && r.code == "not_held" {
		_, _ = fmt.Fprintf(call.Stderr, "nobody holds %q\n", i.Name)
		return &cli.ExitError{Code: 1}
	}
	return err
}

// show prints what a path answers.
func (r remote) show(ctx context.Context, call *cli.Call, path string, raw bool, into any, locks func() []lockInfo) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var text json.RawMessage
	if err := c.do(ctx, http.MethodGet, path, nil, &text); err != nil {
		return err
	}
	if raw {
		_, err := fmt.Fprintln(call.Stdout, string(text))
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return printLocks(call.Stdout, locks())
}

func printLocks(out io.Writer, locks []lockInfo) error {
	w := tabwriter.NewWriter(out, 0, 1, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "KEY\tSLOT\tOWNER\tHOST\tPOD\tHELD FOR\tREMAINING\tWAITERS")
	for _, l := range locks {
		for _, h := range l.Holders {
			held, left := "-", "-"
			if !h.AcquiredAt.IsZero() {
				held = time.Since(h.AcquiredAt).Round(time.Second).String()
			}
			if h.RemainingMs != nil {
				left = (time.Duration(*h.RemainingMs) * time.Millisecond).String()
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d\n", plain(l.Key), h.Slot, plain(h.Owner), plain(h.Host), plain(h.Pod), held, left, l.Waiters)
		}
	}
	return w.Flush()
}

// plain makes what others wrote safe for a terminal and a table.
func plain(s string) string {
	if s == "" {
		return "-"
	}
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

type releaseCmd struct {
	remote
	Token int64  `help:"the token of the holder" placeholder:"N"`
	Force bool   `help:"free it whoever holds it"`
	Name  string `arg:"" name:"key" help:"the lock"`
}

func (r *releaseCmd) run(ctx context.Context, call *cli.Call) error {
	if (r.Token > 0) == r.Force {
		return cli.Usagef("give either -token N, of the holder, or -force")
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	query := "?force"
	if !r.Force {
		query = "?token=" + strconv.FormatInt(r.Token, 10)
	}
	if err := c.do(ctx, http.MethodDelete, lockPath(r.Name)+query, nil, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(call.Stdout, "released %q\n", r.Name)
	return err
}

package mock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// ctl is the command line of metadata-mock ctl.
type ctl struct {
	Command string   `arg:"" optional:"" help:"what to do"`
	Fields  []string `arg:"" optional:"" help:"its fields, as name=value"`
}

const ctlCommands = "use preempt, maintenance, rebalance, azure-event, cancel, fault, set, delete, reset, state, requests or wait"

// The commands that change nothing.
var reading = []string{"state", "requests", "wait"}

// bare says which field a word without "=" is.
var bare = map[string][]string{
	"maintenance": {"event"},
	"azure-event": {"type"},
	"fault":       {"mode"},
	"set":         {"path", "value"},
	"delete":      {"path"},
}

// run sends the command to the control side and prints the answer.
func (c *ctl) run(ctx context.Context, addr string, stdout io.Writer) error {
	if c.Command == "" {
		return cli.Usagef("ctl: what shall it do? %s", ctlCommands)
	}
	fields, err := c.fields()
	if err != nil {
		return cli.Usagef("%w", err)
	}
	method := http.MethodPost
	if slices.Contains(reading, c.Command) {
		method = http.MethodGet
	}
	target := url.URL{Scheme: "http", Host: dialable(addr), Path: "/control/" + c.Command}
	body := ""
	if method == http.MethodPost {
		body = fields.Encode() // a value may be long
	} else {
		target.RawQuery = fields.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // wait may take long
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target.String(), strings.NewReader(body))
	if err != nil {
		return cli.Usagef("-control %q: %w", addr, err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("no metadata-mock answers at %s: %w: start one, or name its address with -control", addr, op.Err)
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return c.print(resp, stdout)
}

func (c *ctl) print(resp *http.Response, stdout io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	text := strings.TrimSpace(string(b))
	switch resp.StatusCode {
	case http.StatusOK:
		var pretty bytes.Buffer
		if json.Indent(&pretty, []byte(text), "", "  ") == nil {
			text = pretty.String()
		}
		_, err = fmt.Fprintln(stdout, text)
		return err
	case http.StatusBadRequest:
		return cli.Usagef("%s", text)
	case http.StatusNotFound:
		if strings.Contains(text, "is not a command") {
			return cli.Usagef("%s", text)
		}
		return fmt.Errorf("%s does not look like the control side of metadata-mock: it answers %s", resp.Request.URL.Host, resp.Status)
	default:
		return errors.New(text)
	}
}

// fields reads name=value and the words that stand for a field.
func (c *ctl) fields() (url.Values, error) {
	fields := url.Values{}
	names := bare[c.Command]
	for _, word := range c.Fields {
		name, value, given := strings.Cut(word, "=")
		switch {
		case len(names) > 0 && (!given || c.Command == "set"):
			name, value = names[0], word
			names = names[1:]
		case !given:
			return nil, fmt.Errorf("ctl %s: %q is no field: write name=value", c.Command, word)
		}
		if _, err := strconv.Atoi(value); err == nil && name == "mode" {
			name = "status" // ctl fault 503
		}
		if fields.Has(name) {
			return nil, fmt.Errorf("ctl %s: %s is given twice", c.Command, name)
		}
		fields.Set(name, value)
	}
	return fields, nil
}

// dialable makes an address to dial of one to listen on.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// Links checks the links of the docs that lead out of the repository.
//
//	links FILE...          what can be told without a network: each is an https URL of a known host, and one into
//	                       our own repository leads to a file, and to a heading, that is there
//	links -online FILE...  asks each of them as well
//
// Links from page to page are checked by a test of pkg/wrapper.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// hosts are those that pages link to. A new one is added here by whoever has looked at it; a mistyped one is found.
var hosts = []string{
	"cyclonedx.org", "documentation.ubuntu.com", "f1bonacc1.github.io", "github.com", "keepachangelog.com", "pkg.go.dev",
	"semver.org", "skarnet.org", "superlance.readthedocs.io", "supervisord.org", "upx.github.io",
}

const ours = "https://github.com/process-wrapper/process-wrapper"

const (
	askTime = 20 * time.Second // for one answer
	askBody = 1 << 20          // of it are read
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`https?://[^\s<>"'\])}|` + "`" + `]+`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "links:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("links", flag.ContinueOnError)
	root := flags.String("root", ".", "directory of the repository")
	online := flags.Bool("online", false, "ask each link")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var errs []error
	asked := map[string]error{}
	for _, file := range flags.Args() {
		text, err := os.ReadFile(filepath.Join(*root, file))
		if err != nil {
			return err
		}
		for _, l := range linksOf(file, string(text)) {
			err := check(*root, l)
			if _, done := asked[l]; err == nil && *online && !done {
				asked[l] = ask(ctx, http.DefaultClient, l)
			}
			if err = errors.Join(err, asked[l]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", file, l, err))
			}
		}
	}
	if *online {
		fmt.Fprintf(out, "%d links were asked.\n", len(asked))
	}
	return errors.Join(errs...)
}

// linksOf returns the links of a file. In pages, code is no link but for our own repository; other files
// have only those into it.
func linksOf(file, text string) []string {
	prose := ""
	if strings.HasSuffix(file, ".md") {
		prose = code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	}
	all := link.FindAllString(prose, -1)
	for _, l := range link.FindAllString(text, -1) {
		if l == ours || strings.HasPrefix(l, ours+"/") {
			all = append(all, l)
		}
	}
	for i, l := range all {
		all[i] = strings.TrimRight(l, ".,;:") // of the sentence
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// check says what is wrong with a link, as far as that can be told without asking.
func check(root, l string) error {
	u, err := url.Parse(l)
	switch {
	case err != nil:
		return err
	case local(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return errors.New("is not https")
	case u.User != nil || u.Port() != "":
		return errors.New("names a user or a port")
	case !slices.Contains(hosts, u.Host):
		return fmt.Errorf("%s is no known host: if it is right, add it to tools/dev/links", u.Host)
	}
	rest, into := strings.CutPrefix(u.Path, "/process-wrapper/process-wrapper/blob/")
	if u.Host != "github.com" || !into {
		return nil
	}
	version, path, found := strings.Cut(rest, "/")
	if !found || strings.ContainsAny(path, "${") || strings.ContainsAny(version, "${") {
		return nil // a template
	}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		return err
	}
	if u.Fragment != "" && !slices.Contains(slugs(string(text)), u.Fragment) {
		return fmt.Errorf("%s has no heading %s", path, u.Fragment)
	}
	return nil
}

// local says whether a host is one that a reader has: his own, or one of an example.
func local(host string) bool {
	for _, end := range []string{"localhost", "127.0.0.1", "::1", ".example", ".example.com", ".internal", ".local"} {
		if host == end || strings.HasSuffix(host, end) && end[0] == '.' {
			return true
		}
	}
	return !strings.Contains(host, ".")
}

// slugs returns the anchors of the headings of a page.
func slugs(page string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		all = append(all, strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

// ask fails where a page is gone. One that only refuses programs is there.
func ask(ctx context.Context, client *http.Client, l string) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "process-wrapper-links")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, askBody))
	switch code := response.StatusCode; {
	case code == http.StatusForbidden || code == http.StatusTooManyRequests:
		return nil
	case code != http.StatusOK:
		return fmt.Errorf("status %d", code)
	case err != nil:
		return err
	}
	_, anchor, _ := strings.Cut(l, "#")
	if anchor != "" && !strings.Contains(string(body), anchor) && len(body) < askBody {
		return fmt.Errorf("the page has nothing called %s", anchor)
	}
	return nil
}

package metadata

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

const (
	mimeText = "application/text" // which is what the real server says
	mimeJSON = "application/json"
)

// view is one state of a node, as a body.
type view struct {
	body []byte
	mime string
	etag string

	changed <-chan struct{} // only of one who waits
}

// render answers a request for n, which is at key. The ETag is that of the default format, whichever is asked for.
func (n *node) render(key string, q query) view {
	verbatim := slices.ContainsFunc(strings.Split(key, "/"), keepsKeys)
	format := n.format(q.recursive, verbatim, "")
	etag := tag(format.body)
	if q.alt != "" {
		format = n.format(q.recursive, verbatim, q.alt)
	}
	format.etag = etag
	return format
}

func tag(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

func (n *node) format(recursive, verbatim bool, alt string) view {
	switch {
	case n.isDir() && !recursive:
		return view{body: n.list(), mime: mimeText}
	case n.isDir() && alt == "text":
		return view{body: n.lines(nil, ""), mime: mimeText}
	case n.isDir():
		return view{body: marshal(n.object(verbatim)), mime: mimeJSON}
	}
	mime := mimeText
	if n.mime != "" {
		mime = n.mime
	}
	list, isList := n.value.([]string)
	switch {
	case alt == "json", alt == "" && isList && mime == mimeJSON:
		return view{body: marshal(n.value), mime: mimeJSON}
	case isList:
		return view{body: joinLines(list), mime: mimeText}
	default:
		return view{body: []byte(n.scalar()), mime: mime}
	}
}

func (n *node) scalar() string {
	switch v := n.value.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	default:
		return ""
	}
}

func joinLines(list []string) []byte {
	var b bytes.Buffer
	for _, item := range list {
		b.WriteString(item)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// list names what is in a directory, one a line.
func (n *node) list() []byte {
	var b bytes.Buffer
	for _, name := range n.names() {
		b.WriteString(name)
		if n.children[name].isDir() {
			b.WriteByte('/')
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// keepsKeys reports whether the keys below a directory are the user's, so that they stay as they are.
func keepsKeys(name string) bool { return name == "attributes" || name == "service-accounts" }

// object is the recursive answer.
func (n *node) object(verbatim bool) any {
	if !n.isDir() {
		return n.value
	}
	object := make(map[string]any, len(n.children))
	for name, child := range n.children {
		if child.secret {
			continue
		}
		key := name
		if !verbatim {
			key = camel(name)
		}
		object[key] = child.object(verbatim || keepsKeys(name))
	}
	return object
}

// lines is the recursive answer with alt=text.
func (n *node) lines(b []byte, path string) []byte {
	for _, name := range n.names() {
		child := n.children[name]
		if child.secret {
			continue
		}
		at := path + name
		list, isList := child.value.([]string)
		switch {
		case child.isDir():
			b = child.lines(b, at+"/")
		case isList:
			for _, item := range list {
				b = append(b, at+" "+item+"\n"...)
			}
		default:
			b = append(b, at+" "+child.scalar()+"\n"...)
		}
	}
	return b
}

// camel makes onHostMaintenance of on-host-maintenance.
func camel(name string) string {
	words := strings.Split(name, "-")
	for i, word := range words[1:] {
		if word != "" {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, "")
}

// marshal writes JSON without the escapes for HTML. What it gets is made of strings.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

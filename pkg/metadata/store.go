package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits of what may be put into the tree.
const (
	maxValue = 256 << 10
	maxPath  = 1024
	maxNodes = 10_000
)

// errNoKey is the answer to a path that leads nowhere.
var errNoKey = errors.New("no such key")

// A node is a directory or a value of the tree under /computeMetadata/v1/. The mutex of its
// Server guards it.
type node struct {
	children map[string]*node // of a directory, else nil
	value    any              // string, json.Number or []string
	mime     string           // where it is not the usual one
	secret   bool             // left out of recursive answers

	// changed is closed when the value, or one below, changes. It exists once somebody waits.
	changed chan struct{}
}

// dir makes a directory.
func dir(children map[string]*node) *node {
	if children == nil {
		children = map[string]*node{}
	}
	return &node{children: children}
}

// leaf makes a value.
func leaf(value any) *node { return &node{value: value} }

func (n *node) isDir() bool { return n.children != nil }

// names returns the names in a directory, sorted.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.children)) }

// watch returns a channel that is closed at the next change.
func (n *node) watch() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// wake closes the channels of n and all below.
func (n *node) wake() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
	for _, child := range n.children {
		child.wake()
	}
}

func (n *node) count() int {
	sum := 1
	for _, child := range n.children {
		sum += child.count()
	}
	return sum
}

// find returns the node at a path such as instance/preempted, or nil.
func (n *node) find(path string) *node {
	if path == "" {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// put places a node, makes the directories above it, and wakes those who wait for it.
func (n *node) put(path string, new *node) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if n.count() > maxNodes {
		return fmt.Errorf("set %s: there are more than %d values", path, maxNodes)
	}
	names := strings.Split(path, "/")
	way := []*node{n}
	for i, name := range names[:len(names)-1] {
		child := n.children[name]
		if child == nil {
			child = dir(nil)
			n.children[name] = child
		}
		if !child.isDir() {
			return fmt.Errorf("set %s: %s is a value, not a directory", path, strings.Join(names[:i+1], "/"))
		}
		n = child
		way = append(way, n)
	}
	last := names[len(names)-1]
	old := n.children[last]
	n.children[last] = new
	if old != nil {
		old.wake()
	}
	wakeAll(way)
	return nil
}

// remove deletes what is at path.
func (n *node) remove(path string) error {
	parent, last := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, last = path[:i], path[i+1:]
	}
	holder := n.find(parent)
	if holder == nil || holder.children[last] == nil {
		return fmt.Errorf("delete %s: %w", path, errNoKey)
	}
	way := []*node{n}
	for name := range strings.SplitSeq(path, "/") {
		n = n.children[name]
		way = append(way, n)
	}
	delete(holder.children, last)
	n.wake()
	wakeAll(way)
	return nil
}

// wakeAll wakes those who wait for directories on the way to a change.
func wakeAll(way []*node) {
	for _, n := range way {
		if n.changed != nil {
			close(n.changed)
			n.changed = nil
		}
	}
}

func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("a path of %d bytes: at most %d are allowed", len(path), maxPath)
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("%q is no path: write one such as instance/attributes/color", path)
		}
	}
	return nil
}

// assign returns the node for a value that was given as text. It has the type of the old one.
func assign(old *node, path, text string) (*node, error) {
	if len(text) > maxValue {
		return nil, fmt.Errorf("set %s: a value of %d bytes: at most %d are allowed", path, len(text), maxValue)
	}
	if old == nil {
		return leaf(text), nil
	}
	if old.isDir() {
		return nil, fmt.Errorf("set %s: it is a directory; set one of %s below it", path, strings.Join(old.names(), ", "))
	}
	new := &node{mime: old.mime, secret: old.secret, value: text}
	switch old.value.(type) {
	case json.Number:
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("set %s: %q is not a whole number", path, text)
		}
		new.value = json.Number(text)
	case []string:
		list := []string{}
		if text != "" {
			list = strings.Split(text, ",")
		}
		new.value = list
	}
	return new, nil
}

func (n *node) equal(other *node) bool {
	if n == nil || other == nil || n.isDir() || other.isDir() {
		return false
	}
	a, aList := n.value.([]string)
	b, bList := other.value.([]string)
	if aList || bList {
		return aList && bList && slices.Equal(a, b)
	}
	return n.value == other.value
}

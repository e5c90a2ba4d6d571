package etcdstore

import (
	"strconv"
	"strings"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// How locks are called in etcd, below the prefix:
//
//	KEY                      the default namespace; the name that such servers always used
//	@@KEY-without-its-@      … where the key itself begins with an @
//	@NAMESPACE/KEY           another namespace, which is never empty and has no @, + or /
//	@NAMESPACE+/KEY#SLOT     a key with several slots; the namespace may be empty
//	@/…                      what replicas tell each other: no locks
const internal = "@/"

// etcdKey returns where a holder is kept.
func (s *Store) etcdKey(name lock.Name, slot, slots int) string {
	switch {
	case slots > 1:
		return s.slotsPrefix(name) + strconv.Itoa(slot)
	case name.Namespace != "":
		return s.prefix + "@" + name.Namespace + "/" + name.Key
	case strings.HasPrefix(name.Key, "@"):
		return s.prefix + "@" + name.Key
	}
	return s.prefix + name.Key
}

// slotsPrefix is what the slots of a key begin with; so may those of other keys.
func (s *Store) slotsPrefix(name lock.Name) string {
	return s.prefix + "@" + name.Namespace + "+/" + name.Key + "#"
}

// listPrefixes returns what the holders of keys with a prefix begin with: single ones, slots.
func (s *Store) listPrefixes(name lock.Name) [2]string {
	return [2]string{s.etcdKey(name, 0, 1), strings.TrimSuffix(s.slotsPrefix(name), "#")}
}

// parseKey is the inverse of etcdKey.
func (s *Store) parseKey(key string) (name lock.Name, slot int, ok bool) {
	key, ok = strings.CutPrefix(key, s.prefix)
	if !ok || key == "" || strings.HasPrefix(key, internal) {
		return name, 0, false
	}
	rest, special := strings.CutPrefix(key, "@")
	if !special || strings.HasPrefix(rest, "@") {
		return lock.Name{Key: rest}, 0, true
	}
	namespace, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return name, 0, false
	}
	namespace, several := strings.CutSuffix(namespace, "+")
	name = lock.Name{Namespace: namespace, Key: rest}
	if !several {
		return name, 0, rest != ""
	}
	at := strings.LastIndexByte(rest, '#')
	if at < 1 {
		return name, 0, false
	}
	name.Key = rest[:at]
	slot, err := strconv.Atoi(rest[at+1:])
	return name, slot, err == nil && slot >= 0 && strconv.Itoa(slot) == rest[at+1:]
}

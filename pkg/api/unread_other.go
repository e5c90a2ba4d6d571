//go:build !linux

package api

import "net"

// unread reports whether a client has sent what was not read yet, where that can
// be known.
func unread(net.Conn) bool { return false }

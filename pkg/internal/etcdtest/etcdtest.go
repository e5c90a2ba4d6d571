// Package etcdtest runs one etcd for all tests of a package.
package etcdtest

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// Main runs the tests of m while an etcd serves, whose address endpoint is set to, and returns the code to exit with.
// Start is etcdstore.Embed. It is an argument, as that package's own tests could not import it by way of this one.
func Main[E interface {
	Endpoint() string
	Close()
}](m *testing.M, endpoint *string, start func(ctx context.Context, dir, address string) (E, error)) int {
	dir, err := os.MkdirTemp("", "etcdtest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	etcd, err := start(context.Background(), dir, "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer etcd.Close()
	*endpoint = etcd.Endpoint()
	return m.Run()
}

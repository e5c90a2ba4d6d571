//go:build linux

package command

import (
	"testing"
)

func helperAsUser() error { return nil }
func helperMasked() error { return nil }
func helperPdeath() error { return nil }

func TestX(t *testing.T) { needRoot(t) }

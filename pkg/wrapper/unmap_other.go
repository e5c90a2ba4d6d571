//go:build !linux

package wrapper

func dropProgram() error { return nil }

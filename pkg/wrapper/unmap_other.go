//go:build !linux

package wrapper

func dropProgram() error { return nil }

// onMainThread keeps all threads where it cannot tell.
func onMainThread() bool { return true }

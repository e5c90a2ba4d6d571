package wrapper

import (
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// Before they are caught, a signal has its usual effect: SIGQUIT ends a Go program with a dump.
func TestNothingThatMayHangBeginsBeforeSignalsAreCaught(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signals{c: make(chan os.Signal, 1)}
		caught, hangs := make(chan struct{}), make(chan struct{})
		s.catching.Go(func() { <-caught })
		var began atomic.Bool
		got := make(chan os.Signal)
		go func() {
			sig, _ := s.during(slog.New(slog.DiscardHandler), nil, func() error { began.Store(true); <-hangs; return nil })
			got <- sig
		}()
		synctest.Wait()
		if began.Load() {
			t.Error("it began before")
		}
		close(caught)
		synctest.Wait()
		if !began.Load() {
			t.Fatal("it never begins")
		}
		s.c <- syscall.SIGQUIT
		if sig := <-got; sig != syscall.SIGQUIT {
			t.Errorf("it ends by %v", sig)
		}
		close(hangs)
	})
}

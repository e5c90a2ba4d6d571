package output

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestALossIsToldAtOnceAndThenOnceAMinute(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full: %v", err) // only Linux has it
	}
	defer func() { _ = full.Close() }()
	var told []string
	var p *Pump
	p, err = NewPump(full, PumpOptions{Failing: func(cause error, lost int) {
		if !errors.Is(cause, unix.ENOSPC) {
			t.Errorf("it says %v", cause)
		}
		told = append(told, fmt.Sprintf("%v %d", p.now.Sub(time.Unix(0, 0)), lost))
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1500 { // 150 s
		p.now = time.Unix(0, 0).Add(time.Duration(i) * 100 * time.Millisecond)
		p.enc.setTime(p.now)
		p.enc.out = append(p.enc.out, "a\nb\n"...)
		p.flush()
	}
	p.tell() // as at the end
	if want := []string{"0s 2", "1m0s 1200", "2m0s 1200", "2m29.9s 598"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestLinesWaitForRunOnceThePumpIsStarted(t *testing.T) {
	r, w := pipe(t)
	defer r.Close()
	p, err := NewPump(w, PumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err == nil {
		t.Error("it starts twice")
	}
	_, _ = p.Write([]byte("early\n"))
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
		t.Errorf("written already: %d, %v", n, err)
	}
	h := serve(t, p)
	buf := make([]byte, 100)
	if n, err := r.Read(buf); string(buf[:n]) != "early\n" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := p.Run(t.Context()); err == nil {
		t.Error("it runs twice")
	}
	h.stop()
}

func TestTheFlushTakesNoLongerThanItMayNow(t *testing.T) {
	r, w := pipe(t)
	defer r.Close()
	h := runPump(t, w, PumpOptions{FlushTimeout: time.Minute})
	s, child := h.feed(StreamConfig{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // until the pump ends
		for {
			if _, err := child.WriteString("a line of some length that nobody reads\n"); err != nil {
				return
			}
		}
	})
	waitFull(t, h.Pump)
	h.FlushWithin(100 * time.Millisecond)
	began := time.Now()
	h.stop()
	if took := time.Since(began); took < 100*time.Millisecond || took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	_ = s.Drain(t.Context())
}

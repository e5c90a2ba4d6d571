//go:build linux

package command

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBare is the limit: fork, exec and wait, nothing else.
func BenchmarkBare(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	for b.Loop() {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, attr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	r := running(b)
	c := &Command{Name: "true", Path: "true", Env: os.Environ()}
	for b.Loop() {
		child, err := r.Start(c)
		if err != nil {
			b.Fatal(err)
		}
		<-child.Exited()
	}
}

func BenchmarkStartAndSweep(b *testing.B) {
	r := running(b)
	c := &Command{Name: "true", Path: "true", Env: os.Environ()}
	for b.Loop() {
		child, err := r.Start(c)
		if err != nil {
			b.Fatal(err)
		}
		<-child.Exited()
		if _, err := child.Sweep(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStartByShim(b *testing.B) {
	r := running(b)
	c := &Command{Name: "true", Path: "true", Env: os.Environ(), Attr: Attr{NoNewPrivs: true}}
	for b.Loop() {
		child, err := r.Start(c)
		if err != nil {
			b.Fatal(err)
		}
		<-child.Exited()
	}
}

// BenchmarkThousand starts 1,000 processes bare and through us, in turns of 50 so
// that both meet the same machine, and reports the ratio.
func BenchmarkThousand(b *testing.B) {
	const n, turn = 1000, 50
	r := running(b)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	var bare, ours, bareCPU, ourCPU time.Duration
	for b.Loop() {
		for range n / turn {
			began, cpu := time.Now(), ownCPU()
			pids := make([]int, turn)
			for i := range pids {
				if pids[i], err = syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, attr); err != nil {
					b.Fatal(err)
				}
			}
			bare += time.Since(began)
			bareCPU += ownCPU() - cpu
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // the reaper collects it
			}
			eventually(b, "the bare ones are gone", func() bool { left, ok := directChildren(); return ok && len(left) == 0 })

			began, cpu = time.Now(), ownCPU()
			children := make([]*Child, turn)
			for i := range children {
				children[i], err = r.Start(&Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"1000"}, Env: os.Environ()})
				if err != nil {
					b.Fatal(err)
				}
			}
			ours += time.Since(began)
			ourCPU += ownCPU() - cpu
			for _, c := range children {
				_ = c.Signal(syscall.SIGKILL)
				<-c.Exited()
			}
		}
	}
	b.ReportMetric(float64(bare)/float64(b.N)/n, "bare-ns/start")
	b.ReportMetric(float64(ours)/float64(b.N)/n, "our-ns/start")
	b.ReportMetric(float64(ours)/float64(bare), "ours/bare")
	b.ReportMetric(float64(ourCPU)/float64(bareCPU), "ours/bare-CPU")
}

// ownCPU is the CPU time that this process used, which others that keep the
// machine busy change less than the time of day.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLook and BenchmarkPass are what a sweep costs at 1,000 children, once
// for all who sweep at that moment.
func BenchmarkLook(b *testing.B) {
	r := running(b)
	sleepers(b, r)
	for b.Loop() {
		r.lookAtChildren()
	}
}

func BenchmarkPass(b *testing.B) {
	r := running(b)
	sleepers(b, r)
	for b.Loop() {
		r.takeCensus()
	}
}

func sleepers(b *testing.B, r *Reaper) {
	for range 1000 {
		start(b, r, &Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"1000"}})
	}
}

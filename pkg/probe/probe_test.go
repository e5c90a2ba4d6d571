package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

func says(err error) Probe {
	return Func(func(context.Context) error { return err })
}

func TestPassed(t *testing.T) {
	remark := &Warning{Target: "x", Text: "odd"}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing to say is a pass":                        {nil, true},
		"a warning is a pass":                             {remark, true},
		"a wrapped warning is a pass":                     {fmt.Errorf("check: %w", remark), true},
		"two warnings are a pass":                         {errors.Join(remark, remark), true},
		"a failure is none":                               {errDown, false},
		"a wrapped failure is none":                       {fmt.Errorf("check: %w", errDown), false},
		"a warning does not make a failure pass":          {errors.Join(remark, errDown), false},
		"a warning does not make an unknown verdict pass": {errors.Join(remark, ErrInconclusive), false},
		"inconclusive is none":                            {ErrInconclusive, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Passed(c.err); got != c.want {
				t.Errorf("Passed(%v) = %v, want %v", c.err, got, c.want)
			}
		})
	}
}

func TestAll(t *testing.T) {
	remark := &Warning{Target: "x", Text: "odd"}
	unknown := fmt.Errorf("%w: cut", ErrInconclusive)
	for name, c := range map[string]struct {
		probes []Probe
		want   string
		parts  []string
	}{
		"no probe passes":                           {nil, "passed", nil},
		"all passed is passed":                      {[]Probe{says(nil), says(nil)}, "passed", nil},
		"one failure fails":                         {[]Probe{says(nil), says(errDown)}, "failed", []string{"down"}},
		"every failure is told":                     {[]Probe{says(errors.New("one")), says(errDown)}, "failed", nil},
		"a failure outweighs what nobody knows":     {[]Probe{says(unknown), says(errDown), says(remark)}, "failed", nil},
		"what nobody knows outweighs a pass":        {[]Probe{says(nil), says(unknown)}, "inconclusive", []string{"cut"}},
		"what nobody knows outweighs a warning":     {[]Probe{says(remark), says(unknown)}, "inconclusive", nil},
		"a warning is kept":                         {[]Probe{says(nil), says(remark)}, "warned", []string{"x: odd"}},
		"warnings are put together":                 {[]Probe{says(remark), says(remark)}, "warned", []string{"x, x: odd, odd"}},
		"a single probe stands for itself, failing": {[]Probe{says(errDown)}, "failed", []string{"down"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := All(c.probes...).Check(t.Context())
			if got := verdict(err); got != c.want {
				t.Fatalf("%s (%v), want %s", got, err, c.want)
			}
			for _, part := range c.parts {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if errors.Is(err, errDown) && errors.Is(err, ErrInconclusive) {
				t.Errorf("%v is both failed and inconclusive", err)
			}
		})
	}
}

func TestAllChecksAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := Func(func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		})
		start := time.Now()
		if err := All(slow, slow, slow).Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("three checks of 1s took %v", took)
		}
	})
}

func TestExcerpt(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		limit int
		want  string
	}{
		"short text stays":                         {"db down", 20, "db down"},
		"lines become one":                         {"\n one\r\n\ttwo \n", 20, "one two"},
		"long text is cut":                         {"abcdef", 3, "abc…"},
		"text as long as allowed is not":           {"abc", 3, "abc"},
		"text that was cut unseen says so":         {"abc" + strings.Repeat(" ", 100), 3, "abc…"},
		"escape sequences lose their teeth":        {"\x1b[31mred", 20, "[31mred"},
		"what is not UTF-8 becomes question marks": {"a\xff\xfe", 20, "a??"},
		"letters of any script stay":               {"Größe 大", 20, "Größe 大"},
		"what turns text around does not":          {"a\u202eb", 20, "a?b"},
		"nothing is nothing":                       {"", 20, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := excerpt(c.in, c.limit); got != c.want {
				t.Errorf("excerpt(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"an error of the system is told without addresses": {&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		"a name that is not known is told without server":  {&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "db", Server: "10.0.0.1:53"}}, "look up db: no such host"},
		"other errors of the network keep their text":      {&net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("x")}, "unknown network x"},
		"any other error has its text, in one line":        {errors.New("one\ntwo"), "one two"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(c.err); got != c.want {
				t.Errorf("reason(%v) = %q, want %q", c.err, got, c.want)
			}
		})
	}
}

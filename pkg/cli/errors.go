package cli

import (
	"errors"
	"fmt"
)

const (
	codeFailure = 1
	codeUsage   = 2
)

var (
	errHelp    = errors.New("help asked for")
	errVersion = errors.New("version asked for")
	errDone    = errors.New("nothing left to do")
)

// ExitError carries the exit code of the program. Without an Err nothing is printed: use it to
// pass on the code of another process.
type ExitError struct {
	Code int
	Err  error // may be nil
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usagef makes an error for a wrong command line or config: exit code 2, printed as it stands.
func Usagef(format string, args ...any) error {
	return &ExitError{Code: codeUsage, Err: fmt.Errorf(format, args...)}
}

// exitCode returns the code for err, and if there is nothing to print about it.
func exitCode(err error) (code int, silent bool) {
	var exit *ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return exit.Code, exit.Err == nil
	default:
		return codeFailure, false
	}
}

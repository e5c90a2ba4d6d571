package prommerge_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		serveHelper()
		return
	}
	goleak.VerifyTestMain(m)
}

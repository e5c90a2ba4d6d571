package sql

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGuessGoesByTheForm(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u:p@h/db":                        Postgres,
		"postgresql://h/db?sslmode=disable":          Postgres,
		"host=h user=u password='a b' dbname=d":      Postgres,
		"dbname = d":                                 Postgres,
		"u:p@tcp(h:3306)/db":                         MySQL,
		"u:p@tcp(h:3306)/db?timeout=5s&parseTime=on": MySQL,
		"u:a=b@tcp(h)/db":                            MySQL,
		"/db":                                        MySQL,
		"u@unix(/run/mysqld/mysqld.sock)/":           MySQL,
		"":                                           MySQL,
	} {
		if got := Guess(dsn); got != want {
			t.Errorf("%q: %s, want %s", dsn, got, want)
		}
	}
}

func TestWithoutLeavesWhatIsNotThere(t *testing.T) {
	all := []string{"a", "b", "c"}
	if got := without(all, []byte("xbx")); strings.Join(got, "") != "ac" {
		t.Errorf("got %v", got)
	}
	if got := without(all, []byte("cba")); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if got := without(all, nil); len(got) != 3 { // NULL
		t.Errorf("got %v", got)
	}
	if strings.Join(all, "") != "abc" {
		t.Errorf("the strings of the config were changed: %v", all)
	}
}

// stuck accepts and never says a word.
func stuck(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestErrorsNameTheCauseAndNoSecret(t *testing.T) {
	hang, none := stuck(t), closed(t)
	for name, c := range map[string]struct {
		driver, dsn string
		source      error
		want        string
	}{
		"a mysql that hangs":              {MySQL, "u:s3cret@tcp(" + hang + ")/db", nil, "run query 1 of 2 on mysql: timed out after"},
		"a postgres that hangs":           {Postgres, "postgres://u:s3cret@" + hang + "/db", nil, "run query 1 of 2 on postgres: timed out after"},
		"a mysql that is not there":       {MySQL, "u:s3cret@tcp(" + none + ")/db", nil, "on mysql: connection refused"},
		"a postgres that is not there":    {Postgres, "postgres://u:s3cret@" + none + "/db", nil, "on postgres: connection refused"},
		"a name that mysql cannot read":   {MySQL, "u:s3cret@tcp(h", nil, "data source name of mysql is not of the form"},
		"a name that postgres cannot":     {Postgres, "postgres://u:s3cret@h:port/db", nil, "data source name of postgres is not of the form"},
		"an option that postgres refuses": {Postgres, "password=s3cret sslmode=sometimes", nil, "data source name of postgres is not"},
		"a driver that is none":           {"oracle", "s3cret", nil, `unknown driver "oracle": wants mysql or postgres`},
		"a source that does not know":     {"", "", errors.New("MYSQL_DSN is not set"), "MYSQL_DSN is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			db := Open(func() (string, string, error) { return c.driver, c.dsn, c.source })
			defer db.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := db.Probe([]string{"select 1", "select 2"}, nil).Check(ctx)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if err == nil || probe.Passed(err) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestACancelledCheckIsInconclusive(t *testing.T) {
	hang := stuck(t)
	for _, c := range [][2]string{{MySQL, "u@tcp(" + hang + ")/db"}, {Postgres, "postgres://u@" + hang + "/db"}} {
		db := Open(func() (string, string, error) { return c[0], c[1], nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := db.Probe([]string{"select 1"}, nil).Check(ctx); !errors.Is(err, probe.ErrInconclusive) {
			t.Errorf("%s: %v", c[0], err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

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
		"an option that mysql had once":   {MySQL, "u:s3cret@tcp(h)/db?strict=true", nil, "mysql has an option that the driver does not know any more"},
		"an authority without TLS":        {MySQL, "u:s3cret@tcp(h)/db?cacertfile=/ca", nil, "which are for tls=true alone"},
		"an authority that is not there":  {MySQL, "u:s3cret@tcp(h)/db?tls=true&cacertfile=/nowhere/ca", nil, "cacertfile of the data source name of mysql: /nowhere/ca: no such file or directory"},
		"an authority that is none":       {MySQL, "u:s3cret@tcp(h)/db?tls=true&cacertfile=/dev/null", nil, "/dev/null holds no certificate in PEM"},
		"a certificate without its key":   {MySQL, "u:s3cret@tcp(h)/db?tls=true&certfile=/c", nil, "has one of certfile and keyfile: wants both"},
		"a key that is not there":         {MySQL, "u:s3cret@tcp(h)/db?tls=true&certfile=/dev/null&keyfile=/nowhere/key", nil, "/nowhere/key: no such file or directory"},
		"a postgres without its CA":       {Postgres, "postgres://u:s3cret@" + none + "/db?sslmode=verify-full&sslrootcert=/nowhere/ca", nil, "on postgres: "},
		"an option that postgres refuses": {Postgres, "password=s3cret sslmode=sometimes", nil, "data source name of postgres is not"},
		"a driver that is none":           {"oracle", "s3cret", nil, `unknown driver "oracle": wants mysql or postgres`},
		"a source that does not know":     {"", "", errors.New("MYSQL_DSN is not set"), "MYSQL_DSN is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			db := Open(func() (string, string, error) { return c.driver, c.dsn, c.source })
			defer db.Close()
			timeout := 30 * time.Second
			if strings.Contains(c.want, "timed out") {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			began := time.Now()
			err := db.Probe([]string{"select 1", "select 2"}, nil).Check(ctx)
			if took := time.Since(began); took > 10*time.Second {
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

func TestPathsMayStandInOptions(t *testing.T) {
	for dsn, want := range map[string]string{
		"u:p@tcp(h)/db?tls=true&cacertfile=/etc/ca": "u:p@tcp(h)/db?tls=true&cacertfile=%2Fetc%2Fca",
		"u:a?b/c@tcp(h)/db":                         "u:a?b/c@tcp(h)/db",
		"u:a?b/c@/db?x=/":                           "u:a?b/c@/db?x=%2F",
		"u@unix(/s)/db":                             "u@unix(/s)/db",
		"/db":                                       "/db",
		"":                                          "",
	} {
		if got := slashes(dsn); got != want {
			t.Errorf("%q: %q, want %q", dsn, got, want)
		}
	}
}

func FuzzConnectorsOfAnyName(f *testing.F) {
	for _, dsn := range []string{
		"u:s3cret@tcp(h:1)/db?tls=true", "u:s3cret@/db?strict=true", "u@unix(/s)/?allowOldPasswords=1&x=%zz",
		"postgres://u:s3cret@h:1/db?sslmode=require", "host=h user=u password='s3cret' dbname=d", "host='", "?", "",
	} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if strings.Contains(dsn, "file") || strings.Contains(dsn, "ssl") || strings.Contains(dsn, "service") {
			t.Skip("it may name any file")
		}
		for _, name := range []string{MySQL, Postgres} {
			c, _, err := connector(name, dsn, new(dialer))
			if (c == nil) != (err != nil) {
				t.Errorf("%s: %v, %v", name, c, err)
			}
			if err != nil && len(dsn) > 12 && strings.Contains(err.Error(), dsn) {
				t.Errorf("%s: the error holds the name: %v", name, err)
			}
		}
	})
}

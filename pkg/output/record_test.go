package output

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testEncoder() *encoder {
	e := &encoder{}
	e.setTime(time.Date(2026, 1, 2, 15, 4, 5, 678_900_000, time.UTC))
	return e
}

func testStream(format Format, labels map[string]string) *Stream {
	cfg := StreamConfig{Name: "web", Out: "stdout", Format: format, Labels: labels}
	return &Stream{label: newLabel(&cfg, 42), split: splitter{max: DefaultMaxLineBytes}}
}

// encodeLine returns the record of a line without its newline and what all records share.
func encodeLine(t *testing.T, format Format, labels map[string]string, line string) string {
	t.Helper()
	e, s := testEncoder(), testStream(format, labels)
	e.begin(s)
	e.line(s, []byte(line), whole)
	rec := string(e.out)
	if format == Plain {
		return rec
	}
	if _, err := decodeRecord(rec); err != nil {
		t.Errorf("%q: %v", rec, err)
	}
	rec, ok := strings.CutPrefix(rec, "time=2026-01-02T15:04:05.678Z level=")
	if !ok {
		t.Errorf("%q starts otherwise", rec)
	}
	return strings.TrimSuffix(strings.Replace(rec, " name=web pid=42 out=stdout", "", 1), "\n")
}

func TestRecords(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"a text line is the message", `hello world`, `info msg="hello world"`},
		{"an empty line is a record", ``, `info msg=""`},
		{"quotes, backslashes, tabs and carriage returns are escaped", "a \"b\" \\ \t\r", `info msg="a \"b\" \\ \t\r"`},
		{"colours and NUL are escaped", "\x1b[31mred\x00\x7f", `info msg="\u001b[31mred\u0000\u007f"`},
		{"UTF-8 stays and other bytes are escaped", "grün \xff\xc3", `info msg="grün \xff\xc3"`},
		{"a sentence with a pair is text", `player level=5 reached the boss`, `info msg="player level=5 reached the boss"`},
		{"pairs without level or message are text", `a=1 b=2`, `info msg="a=1 b=2"`},
		{"an unknown level alone is text", `level=5 boss=1`, `info msg="level=5 boss=1"`},
		{"logfmt keeps level, message and fields", `level=warn msg="disk full" disk=/dev/sda1 free=0`, `warn msg="disk full" disk=/dev/sda1 free=0`},
		{"the order of logfmt does not matter", `a=1 msg=x b=2 lvl=E c="d e"`, `error msg="x" a=1 b=2 c="d e"`},
		{"an unknown level is kept beside the message", `level=5 msg=boss`, `info msg="boss" child_level=5`},
		{"a coarse level is kept", `level=notice severity=info msg=x`, `info msg="x" child_level=notice severity=info`},
		{"an alias of a level needs no second field", `level=WARNING msg=x`, `warn msg="x"`},
		{"our keys are renamed", `time=now name=a pid=1 out=o msg=m msg=n partial=p dropped=d`,
			`info msg="m" child_time=now child_name=a child_pid=1 child_out=o child_msg=n child_partial=p child_dropped=d`},
		{"several spaces become one", `  msg=m  a=1   b=2 c=3 `, `info msg="m" a=1 b=2 c=3`},
		{"duplicates stay", `msg=m a=1 a=2`, `info msg="m" a=1 a=2`},
		{"an empty value gets quotes", `msg= a= b=1`, `info msg="" a="" b=1`},
		{"a value with an equals sign gets quotes", `msg=x url=http://h/?a=b`, `info msg="x" url="http://h/?a=b"`},
		{"escapes of %q are normalised", `msg="\x1b[0m\a" k="a\"b\\"`, `info msg="\u001b[0m\u0007" k="a\"b\\"`},
		{"an unknown escape makes the line text", `msg="C:\dir" a=b`, `info msg="msg=\"C:\\dir\" a=b"`},
		{"an open quote makes the line text", `msg="x`, `info msg="msg=\"x"`},
		{"text after a quoted value makes the line text", `msg="x"y`, `info msg="msg=\"x\"y"`},
		{"a quote within a word makes the line text", `msg=x"y`, `info msg="msg=x\"y"`},
		{"non-ASCII in logfmt is kept", `msg=grün schlüssel=wärt`, `info msg="grün" schlüssel="wärt"`},
		{"a percent sign in a key is escaped", `msg=m a%20=1`, `info msg="m" a%2520=1`},

		{"JSON keeps level, message and fields", `{"level":"error","ts":1735830245.12,"msg":"it broke","n":null,"ok":true}`,
			`error msg="it broke" ts=1735830245.12 n=null ok=true`},
		{"pino's numbers are levels", `{"level":40,"time":1531171074631,"msg":"x","pid":657}`, `warn msg="x" child_time=1531171074631 child_pid=657`},
		{"GCP's names work", `{"severity":"CRITICAL","message":"x"}`, `fatal msg="x" severity=CRITICAL`},
		{"nested JSON stays JSON", `{"msg":"x","err":{"a":[1,{"b":"}"}]}}`, `info msg="x" err="{\"a\":[1,{\"b\":\"}\"}]}"`},
		{"a message that is an object stays JSON", `{"msg":{"a":1}}`, `info msg="{\"a\":1}"`},
		{"JSON escapes are decoded", `{"msg":"a\n\"\u00fc\u001b\ud83d\ude00\/","k":"\\"}`, `info msg="a\n\"ü\u001b😀/" k="\\"`},
		{"a lone surrogate stays as it is written", `{"msg":"\ud800 \udc00x"}`, `info msg="\\ud800 \\udc00x"`},
		{"huge numbers are untouched", `{"id":123456789012345678901234567890.10e+5}`, `info msg="" id=123456789012345678901234567890.10e+5`},
		{"odd keys are escaped", `{"msg":"m","":1,"a b":2,"a=b":3,"a%b":4,"\"":5,"ä":6}`, `info msg="m" %=1 a%20b=2 a%3db=3 a%25b=4 %22=5 ä=6`},
		{"an escaped key that is ours is renamed", `{"msg":"m","\u0070id":1}`, `info msg="m" child_pid=1`},
		{"duplicate JSON keys stay", `{"msg":"a","msg":"b","x":1,"x":2}`, `info msg="a" child_msg="b" x=1 x=2`},
		{"spaces around JSON do not matter", `{ "msg" : "m" , "a" : 1 } ` + "\r", `info msg="m" a=1`},
		{"empty strings and spaces get quotes", `{"msg":"m","a":"","b":"x y"}`, `info msg="m" a="" b="x y"`},
		{"an empty object is text", `{}`, `info msg="{}"`},
		{"broken JSON is text", `{"msg":"m"`, `info msg="{\"msg\":\"m\""`},
		{"two objects are text", `{"a":1}{"b":2}`, `info msg="{\"a\":1}{\"b\":2}"`},
		{"a wrong literal makes it text", `{"a":nope}`, `info msg="{\"a\":nope}"`},
		{"a bad escape makes it text", `{"a":"\x41"}`, `info msg="{\"a\":\"\\x41\"}"`},
		{"an array is text", `[1,2]`, `info msg="[1,2]"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.ReplaceAll(c.want, `child_msg="b"`, "child_msg=b")
			if diff := cmp.Diff(want, encodeLine(t, Wrap, nil, c.line)); diff != "" {
				t.Errorf("%s\n%s", c.line, diff)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	labels := map[string]string{"region": "eu west", "app": "x", "pid": "7"}
	for _, c := range []struct{ name, line, want string }{
		{"labels follow the message, in order of their keys", "hi", `info msg="hi" app=x label_pid=7 region="eu west"`},
		{"a child's field that is a label is renamed", "msg=m region=us z=1 level=error", `error msg="m" app=x label_pid=7 region="eu west" child_region=us z=1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encodeLine(t, Wrap, labels, c.line); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAFieldlessLineAndOneWithTooManyFieldsAreText(t *testing.T) {
	line := "msg=m" + strings.Repeat(" a=1", maxFields)
	if got := encodeLine(t, Wrap, nil, line); got != `info msg="`+line+`"` {
		t.Errorf("%.60s…", got)
	}
}

func TestAutoDetectsTheSeverityOfText(t *testing.T) {
	for line, want := range map[string]Level{
		"E0102 15:04:05.678901       1 main.go:42] it broke":     Error,
		"W0102 15:04:05.678901       1 main.go:42] careful":      Warn,
		"F20260102 15:04:05 glog with a year is not this header": Info,
		"<3>kernel says":                          Error,
		"ERROR something":                         Error,
		"2026-01-02 15:04:05,678 WARNING root: x": Warn,
		"WARNING:root:x":                          Warn,
		"2026/01/02 15:04:05 [error] 12#0: *1 open() failed": Error,
		"[WARN ] padded":                                             Warn,
		"[2026-01-02 15:04:05] [ALERT] x":                            Fatal,
		"2026-01-02 15:04:05.678 UTC [123] FATAL:  terminating":      Fatal,
		"\x1b[31mERROR\x1b[0m in colour":                             Error,
		"2026-01-02T15:04:05Z\t\x1b[33mWARN\x1b[0m\tmain.go:1\tzap":  Warn,
		"\x1b[31mERRO\x1b[0m[0001] logrus on a terminal":             Error,
		"panic: runtime error: index out of range":                   Fatal,
		"error: cannot open file":                                    Error,
		"there is no error in this sentence":                         Info,
		"INFORMATION is not urgent":                                  Info,
		"DEBUG x":                                                    Debug,
		"mixed text level=error with pairs":                          Error,
		`mixed text level="warn" with pairs`:                         Warn,
		"mixed sublevel=error":                                       Info,
		"player level=5 reached the boss":                            Info,
		"":                                                           Info,
		"a b c d e f g h i ERROR too far":                            Info,
		"\x1b[":                                                      Info,
		"12:04:05.678 [main] ERROR com.example.Main - log4j":         Error,
		`{"broken":"json" ERROR`:                                     Error,
		`level=trace msg="logfmt keeps its level in auto" k=v ERROR`: Debug,
	} {
		got := encodeLine(t, Auto, nil, line)
		if level, _, _ := strings.Cut(got, " "); level != want.String() {
			t.Errorf("%q: %s, want %s", line, level, want)
		}
		if line != "" && !strings.HasPrefix(line, "level=") {
			if pairs, _ := decodeRecord(got + "\n"); len(values(pairs, "msg")) == 1 && values(pairs, "msg")[0] != line {
				t.Errorf("%q: lost something: %s", line, got)
			}
		}
	}
	if got := encodeLine(t, Wrap, nil, "ERROR something"); !strings.HasPrefix(got, "info ") {
		t.Errorf("wrap does not look into text: %s", got)
	}
}

func TestFormats(t *testing.T) {
	for s, want := range map[string]Format{"": Wrap, "wrap": Wrap, "free": Plain, "Plain": Plain, "AUTO": Auto} {
		if got, err := ParseFormat(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || err.Error() != `log format "xml" is unknown: use wrap, auto, plain or free` {
		t.Error(err)
	}
	for _, f := range []Format{Wrap, Plain, Auto} {
		if got, err := ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
}

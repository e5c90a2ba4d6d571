package lock

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// strictly is what encoding/json makes of a body.
func strictly(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err == nil {
		return bad("bad_request", "more")
	}
	return nil
}

func TestUsualRenewalsAreReadByHand(t *testing.T) {
	for body, want := range map[string]tokenBody{
		`{"token":1}`: {1},
		" { \"token\" :\n123456789012345678 } \n": {123456789012345678},
	} {
		var got tokenBody
		if !got.scan([]byte(body)) || got != want {
			t.Errorf("%s: %+v", body, got)
		}
	}
	var got refsBody
	if body := `{"locks":[{"key":"a/b","token":7}, {"key":"ü","token":8}]}`; !got.scan([]byte(body)) ||
		!reflect.DeepEqual(got.Locks, []refJSON{{"a/b", 7}, {"ü", 8}}) {
		t.Errorf("%+v", got)
	}
	for _, body := range []string{
		``, `{}`, `{"token":-1}`, `{"token":0}`, `{"token":01}`, `{"token":1.0}`, `{"token":1e3}`, `{"token":1}}`, `{"token":1}{}`,
		`{"token":9999999999999999999}`, `{"Token":1}`, `{"token":1,"token":2}`, `{"token":"1"}`, `{"token":1`, `{"token":1 2}`,
	} {
		if got := (tokenBody{}); got.scan([]byte(body)) || got.Token != 0 {
			t.Errorf("%s is left to encoding/json: %+v", body, got)
		}
	}
	for _, body := range []string{
		`{"locks":[]}`, `{"locks":[{"key":"a\\u0041","token":1}]}`, `{"locks":[{"token":1,"key":"a"}]}`, "{\"locks\":[{\"key\":\"\xff\",\"token\":1}]}",
		`{"locks":[{"key":"a","token":1},]}`, `{"locks":[{"key":"a","token":1}]`, `{"locks":[{"key":"a","token":1}],"x":1}`,
	} {
		if got := (refsBody{}); got.scan([]byte(body)) || got.Locks != nil {
			t.Errorf("%s is left to encoding/json: %+v", body, got)
		}
	}
}

func FuzzWhatIsReadByHandIsWhatJSONSays(f *testing.F) {
	for _, seed := range []string{
		`{"token":1}`, ` {"token" : 12 } `, `{"locks":[{"key":"a","token":1},{"key":"b","token":22}]}`, `{"locks":[{"key":"\u00e4","token":1}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var token, wantToken tokenBody
		if token.scan(body) {
			if err := strictly(body, &wantToken); err != nil || token != wantToken {
				t.Errorf("%q: %+v, JSON says %+v, %v", body, token, wantToken, err)
			}
		}
		var refs, wantRefs refsBody
		if refs.scan(body) {
			if err := strictly(body, &wantRefs); err != nil || !reflect.DeepEqual(refs, wantRefs) {
				t.Errorf("%q: %+v, JSON says %+v, %v", body, refs, wantRefs, err)
			}
		}
	})
}

package spec

import "testing"

func TestAnErrorShowsOnlyWhatIsKnownOfItsPlace(t *testing.T) {
	for want, e := range map[string]Error{
		"what is wrong":                           {Msg: "what is wrong"},
		"what is wrong — the way out":             {Msg: "what is wrong", Hint: "the way out"},
		"a.yaml: what is wrong":                   {File: "a.yaml", Msg: "what is wrong"},
		"a.yaml:2:3: web.args: what is wrong":     {File: "a.yaml", Line: 2, Column: 3, Path: "web.args", Msg: "what is wrong"},
		"a.yaml:2:3: what is wrong — the way out": {File: "a.yaml", Line: 2, Column: 3, Msg: "what is wrong", Hint: "the way out"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

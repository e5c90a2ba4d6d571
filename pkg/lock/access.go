package lock

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// right is what a token may do. hold includes read.
type right string

const (
	read  right = "read"  // get, list, validate, events
	hold  right = "hold"  // acquire, renew, release
	force right = "force" // free what another holds
)

// Access says which bearer token may do what. Make one with [ParseAccess].
type Access struct{ byHash map[[sha256.Size]byte]*grant }

// grant is one token of the file.
type grant struct {
	Name       string   `json:"name"`
	Token      string   `json:"token"`
	SHA256     string   `json:"sha256"`
	Namespaces []string `json:"namespaces"` // none: the default one; "*": all
	Prefixes   []string `json:"prefixes"`   // of keys; "" for all
	Rights     []right  `json:"rights"`
}

// ParseAccess reads the JSON of an access file:
//
//	{"tokens": [{"name": "ci", "sha256": "…", "namespaces": ["*"], "prefixes": ["ci/"], "rights": ["hold", "force"]}]}
//
// sha256 is the hash of the token in hexadecimal; token, the secret itself, may stand in its place.
// The errors name tokens, never secrets.
func ParseAccess(text []byte) (*Access, error) {
	var file struct {
		Tokens []*grant `json:"tokens"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	if d.More() {
		return nil, fmt.Errorf("parse JSON: there is more behind the first value")
	}
	a := &Access{byHash: map[[sha256.Size]byte]*grant{}}
	for i, g := range file.Tokens {
		if g == nil {
			return nil, fmt.Errorf("token %d is null", i)
		}
		hash, err := g.check()
		if err != nil {
			return nil, fmt.Errorf("token %d (%q): %w", i, g.Name, err)
		}
		if other := a.byHash[hash]; other != nil {
			return nil, fmt.Errorf("token %d (%q) is the same as that of %q", i, g.Name, other.Name)
		}
		g.Token = ""
		a.byHash[hash] = g
	}
	return a, nil
}

func (g *grant) check() (hash [sha256.Size]byte, err error) {
	switch {
	case g.Name == "":
		return hash, fmt.Errorf("it has no name")
	case (g.Token == "") == (g.SHA256 == ""):
		return hash, fmt.Errorf("give either token or sha256")
	case g.Token != "" && len(g.Token) < 16:
		return hash, fmt.Errorf("the token is shorter than 16 bytes")
	case len(g.Prefixes) == 0:
		return hash, fmt.Errorf("it has no prefixes: give [\"\"] for all keys")
	case len(g.Rights) == 0:
		return hash, fmt.Errorf("it has no rights: give some of read, hold, force")
	}
	if err := g.checkLists(); err != nil {
		return hash, err
	}
	if g.Token != "" {
		return sha256.Sum256([]byte(g.Token)), nil
	}
	b, err := hex.DecodeString(g.SHA256)
	if err != nil || len(b) != sha256.Size {
		return hash, fmt.Errorf("sha256 is not 64 hexadecimal digits")
	}
	return [sha256.Size]byte(b), nil
}

func (g *grant) checkLists() error {
	for _, r := range g.Rights {
		if r != read && r != hold && r != force {
			return fmt.Errorf("%q is no right: there are read, hold and force", r)
		}
	}
	for _, n := range g.Namespaces {
		if n != "*" && checkNamespace(n) != nil {
			return fmt.Errorf("%q is no namespace", n)
		}
	}
	return nil
}

// may tells if g allows it for the keys of a name.
func (g *grant) may(what right, name Name) bool {
	ok := slices.Contains(g.Rights, what) || what == read && slices.Contains(g.Rights, hold)
	in := name.Namespace == "" && len(g.Namespaces) == 0 || slices.Contains(g.Namespaces, "*") ||
		slices.Contains(g.Namespaces, name.Namespace)
	return ok && in && slices.ContainsFunc(g.Prefixes, func(p string) bool { return strings.HasPrefix(name.Key, p) })
}

// grantOf finds the token of a request. It is nil where everybody may do everything.
func (s *Server) grantOf(r *http.Request) (*grant, error) {
	if s.access == nil {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		if g := s.access.byHash[sha256.Sum256([]byte(strings.TrimSpace(token)))]; g != nil {
			return g, nil
		}
	}
	return nil, &problem{http.StatusUnauthorized, "unauthorized", "send a known token as Authorization: Bearer"}
}

// known refuses requests without a known token, where one is needed.
func (s *Server) known(r *http.Request) error {
	_, err := s.grantOf(r)
	return err
}

// may checks the key and whether the request may do that with it.
func (s *Server) may(r *http.Request, what right, name Name) error {
	if err := s.mayPrefix(r, what, name); err != nil {
		return err
	}
	return checkKey(name.Key)
}

// mayPrefix is may for all keys that begin with that of name, which may be empty.
func (s *Server) mayPrefix(r *http.Request, what right, name Name) error {
	g, err := s.grantOf(r)
	if err != nil {
		return err
	}
	if g != nil && !g.may(what, name) {
		return &problem{http.StatusForbidden, "forbidden", fmt.Sprintf("the token of %q may not %s here", g.Name, what)}
	}
	return nil
}

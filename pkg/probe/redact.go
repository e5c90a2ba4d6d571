package probe

import (
	"net/url"
	"strings"
)

// hidden stands for what an error must not show.
const hidden = "xxxxx"

// redact returns u without what may be secret: the user, the password, the
// values of the query and the fragment.
func redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.User != nil {
		shown.User = url.User(hidden)
	}
	if u.RawQuery != "" {
		parts := strings.FieldsFunc(u.RawQuery, func(r rune) bool { return r == '&' || r == ';' })
		for i, p := range parts {
			parts[i] = redactPair(p)
		}
		shown.RawQuery = strings.Join(parts, "&")
	}
	return excerpt(shown.String(), 200)
}

// redactPair hides the value of "key=value". Without a value the key may be
// the secret itself, padded base64 for one.
func redactPair(pair string) string {
	key, value, _ := strings.Cut(pair, "=")
	if strings.Trim(value, "=") == "" || len(key) > 40 {
		return hidden
	}
	return key + "=" + hidden
}

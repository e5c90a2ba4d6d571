package spec

import (
	"bytes"
	_ "embed"
	"encoding/json"
)

// schemaJSON is made from the tables, by a test: what only editors read is no
// code of the binary.
//
//go:generate go test -run MadeFromTheTables -update .
//go:embed schema.json
var schemaJSON string

// Schema returns the JSON Schema (draft 2020-12) of a config, for editors.
func Schema() []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(schemaJSON), "", "  "); err != nil {
		return []byte(schemaJSON) // a test reads it
	}
	return b.Bytes()
}

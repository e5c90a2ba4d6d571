// Package layers has one purpose, its test: who may import whom, what shipped code may not do, and
// what each binary may not link. The tables are in tables_test.go; a new package, module or binary
// needs its line there first.
package layers

// Package spec is the configuration language of process-wrapper: a list of
// processes in YAML or JSON, in the established keys of this kind of tool, in
// those of a Kubernetes container, or in both.
//
//	bytes ──▶ yaml.Node ──▶ entry ──check──▶ Process × replicas ──▶ Config
//	          (positions)   (tables)         (names, dependencies)
//
// Every key stands in one table of fields (see entryKeys), from which the
// strict decoder, the defaults, the JSON Schema (schema.json) and the
// documentation (testdata/keys.md) are made; go generate writes both files.
// Everything that is wrong is reported at once, with its position. Nothing is
// looked up outside the config: users, files and programs are found, or not,
// at each start of a process.
//
// $(NAME) is expanded by [Process.Argv] and [Process.Environ], which are pure
// functions. Files of variables (envFrom, envsFile) are read at each start,
// since an earlier process may write them; one that cannot be read is a
// failure of that start.
package spec

// Config is what a config says, with every default applied and replicas
// expanded.
type Config struct {
	Processes []*Process // in the order of the files
	Warnings  Errors     // what is accepted, and probably not what was meant
}

// Is says whether name means the process: its own name, or the base name of
// its replicas.
func (p *Process) Is(name string) bool { return p.Name == name || p.Base == name }

package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxBytes = 8 << 20 // of all files of one load, which take up to five seconds and 80 times their size to parse
	maxFiles = 1000
)

// Options change how a config is read.
type Options struct {
	Stdin io.Reader // what the source "-" reads; nil: it is an error
}

// Load reads a config from source: the path of a file, of a directory (its
// *.yaml, *.yml and *.json files, sorted by name, as one list), or "-" for
// o.Stdin. When the config is wrong, the error is of type [Errors] and holds
// everything that is wrong with it.
func Load(source string, o Options) (*Config, error) {
	files, err := read(source, o)
	if err != nil {
		return nil, fmt.Errorf("read config %q: %w", source, err)
	}
	return parse(source, files, o)
}

// Parse reads a config from data, which errors call name.
func Parse(name string, data []byte, o Options) (*Config, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("read config %q: %w", name, errTooLarge)
	}
	return parse(name, []source{{name, data}}, o)
}

var (
	errTooLarge = errors.New("more than 8 MiB")
	errNoStdin  = errors.New("no standard input to read from")
)

type source struct {
	name string
	data []byte
}

func read(name string, o Options) ([]source, error) {
	if name == "-" {
		if o.Stdin == nil {
			return nil, errNoStdin
		}
		data, err := readBounded(o.Stdin, maxBytes)
		return []source{{"stdin", data}}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, unwrapPath(err)
	}
	if info.IsDir() {
		return readDir(name)
	}
	data, err := readFile(name, maxBytes)
	return []source{{name, data}}, err
}

// readDir reads the config files of a directory. Names that start with a dot
// are left out: a mounted ConfigMap keeps its versions there.
func readDir(dir string) ([]source, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, unwrapPath(err)
	}
	var files []source
	left := int64(maxBytes)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ext := strings.ToLower(filepath.Ext(path))
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			continue
		}
		info, err := os.Stat(path) // follows links, as a ConfigMap has them
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		data, err := readFile(path, left)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		left -= int64(len(data))
		if files = append(files, source{path, data}); len(files) > maxFiles {
			return nil, fmt.Errorf("more than %d files", maxFiles)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("the directory has no *.yaml, *.yml or *.json file")
	}
	return files, nil
}

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unwrapPath(err)
	}
	defer f.Close()
	return readBounded(f, limit)
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, unwrapPath(err)
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
}

// unwrapPath drops the operation and the path, which the caller names.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Stamped by the linker: -X github.com/process-wrapper/process-wrapper/pkg/cli.version=v1.2.3
var version, commit, date string

// Build says which build this is; the values of a build_info metric.
type Build struct {
	Version   string // "v1.2.3", or "devel"
	Commit    string // short hash, with "-dirty" for an edited tree; "unknown" where nothing says it
	Date      string // of the commit, RFC 3339; "" where nothing says it
	GoVersion string
}

func (b Build) String() string {
	commit := b.Commit
	if b.Date != "" {
		commit += " of " + b.Date
	}
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", b.Version, commit, b.GoVersion, runtime.GOOS, runtime.GOARCH)
}

// ReadBuild returns what the linker stamped, else what the go command recorded.
func ReadBuild() Build {
	info, _ := debug.ReadBuildInfo()
	return newBuild(Build{Version: version, Commit: commit, Date: date}, info)
}

const shortHash = 12

// newBuild fills in what is not stamped.
func newBuild(stamped Build, info *debug.BuildInfo) Build {
	b := recorded(info)
	b.GoVersion = runtime.Version()
	if stamped.Version != "" {
		b.Version = stamped.Version
	}
	if stamped.Commit != "" {
		b.Commit, b.Date = stamped.Commit, stamped.Date
	}
	return b
}

func recorded(info *debug.BuildInfo) Build {
	b := Build{Version: "devel", Commit: "unknown"}
	if info == nil {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && setting.Value != "":
			b.Commit = setting.Value[:min(shortHash, len(setting.Value))]
		case setting.Key == "vcs.time":
			b.Date = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if b.Commit != "unknown" {
		b.Commit += dirty
	}
	return b
}

package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Stamped by the linker: -X github.com/process-wrapper/process-wrapper/pkg/cli.version=v1.2.3
var version, commit string

// Build says which build this is; the values of a build_info metric.
type Build struct {
	Version   string // "v1.2.3", or "devel"
	Commit    string // short hash, with "-dirty" for an edited tree; "unknown" where nothing says it
	GoVersion string
}

func (b Build) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", b.Version, b.Commit, b.GoVersion, runtime.GOOS, runtime.GOARCH)
}

// ReadBuild returns what the linker stamped, else what the go command recorded.
func ReadBuild() Build {
	info, _ := debug.ReadBuildInfo()
	return newBuild(version, commit, info)
}

const shortHash = 12

func newBuild(version, commit string, info *debug.BuildInfo) Build {
	b := Build{Version: version, Commit: commit, GoVersion: runtime.Version()}
	recordedVersion, recordedCommit := recorded(info)
	if b.Version == "" {
		b.Version = recordedVersion
	}
	if b.Commit == "" {
		b.Commit = recordedCommit
	}
	return b
}

func recorded(info *debug.BuildInfo) (version, commit string) {
	version, commit = "devel", "unknown"
	if info == nil {
		return version, commit
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = v
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && setting.Value != "":
			commit = setting.Value[:min(shortHash, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit != "unknown" {
		commit += dirty
	}
	return version, commit
}

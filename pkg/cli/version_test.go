package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestBuildIsTheStampElseWhatGoRecorded(t *testing.T) {
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	edited := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, test := range []struct {
		name            string
		version, commit string // stamped
		info            *debug.BuildInfo
		wantVersion     string
		wantCommit      string
	}{
		{"the stamp wins", "v1.2.3", "abc", info("v9.9.9", revision), "v1.2.3", "abc"},
		{"go install records the version", "", "", info("v1.2.3"), "v1.2.3", "unknown"},
		{"go build records the revision", "", "", info("(devel)", revision), "devel", "0123456789ab"},
		{"an edited tree is dirty", "", "", info("(devel)", edited, revision), "devel", "0123456789ab-dirty"},
		{"a short revision is kept whole", "", "", info("", debug.BuildSetting{Key: "vcs.revision", Value: "abc"}), "devel", "abc"},
		{"no build information", "", "", nil, "devel", "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newBuild(test.version, test.commit, test.info)
			want := Build{Version: test.wantVersion, Commit: test.wantCommit, GoVersion: runtime.Version()}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

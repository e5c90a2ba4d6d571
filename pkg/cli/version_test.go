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
	time := debug.BuildSetting{Key: "vcs.time", Value: "2026-11-29T01:02:03Z"}
	edited := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, test := range []struct {
		name    string
		stamped Build
		info    *debug.BuildInfo
		want    Build
	}{
		{"the stamp wins", Build{Version: "v1.2.3", Commit: "abc", Date: "today"}, info("v9.9.9", revision, time), Build{Version: "v1.2.3", Commit: "abc", Date: "today"}},
		{"the date belongs to its commit", Build{Version: "v1.2.3", Commit: "abc"}, info("v9.9.9", revision, time), Build{Version: "v1.2.3", Commit: "abc"}},
		{"go install records the version", Build{}, info("v1.2.3"), Build{Version: "v1.2.3", Commit: "unknown"}},
		{"go build records revision and time", Build{}, info("(devel)", revision, time), Build{Version: "devel", Commit: "0123456789ab", Date: time.Value}},
		{"an edited tree is dirty", Build{}, info("(devel)", edited, revision), Build{Version: "devel", Commit: "0123456789ab-dirty"}},
		{"a short revision is kept whole", Build{}, info("", debug.BuildSetting{Key: "vcs.revision", Value: "abc"}), Build{Version: "devel", Commit: "abc"}},
		{"no build information", Build{}, nil, Build{Version: "devel", Commit: "unknown"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.GoVersion = runtime.Version()
			if got := newBuild(test.stamped, test.info); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

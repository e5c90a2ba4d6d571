package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

type overviewJSON struct {
	Ready     bool          `json:"ready"`
	Alive     bool          `json:"alive"`
	Pod       podJSON       `json:"pod"`
	Processes []processJSON `json:"processes"`
}

type podJSON struct {
	Draining  bool       `json:"draining"`
	Preempted bool       `json:"preempted"`
	Reason    string     `json:"reason"`
	Deadline  *time.Time `json:"deadline"`
}

type processJSON struct {
	Name     string      `json:"name"`
	Phase    string      `json:"phase"`
	Ready    bool        `json:"ready"`
	PID      *int        `json:"pid"`
	Restarts int         `json:"restarts"`
	Since    *time.Time  `json:"since"`
	Started  *time.Time  `json:"started"`
	Ended    *time.Time  `json:"ended"`
	Next     *time.Time  `json:"next"`
	KillAt   *time.Time  `json:"killAt"`
	ExitCode *int        `json:"exitCode"`
	Cause    *string     `json:"cause"`
	Reason   string      `json:"reason"`
	Detail   string      `json:"detail"`
	Probes   []probeJSON `json:"probes"`
	Usage    *usageJSON  `json:"usage"`
	Lock     *Lock       `json:"lock"`
}

type probeJSON struct {
	Name     string     `json:"name"`
	Result   string     `json:"result"`
	Error    *string    `json:"error"`
	Time     *time.Time `json:"time"`
	Duration float64    `json:"durationSeconds"`
	Failures int        `json:"failures"`
}

type usageJSON struct {
	Time       *time.Time `json:"time"`
	CPU        float64    `json:"cpuSeconds"`
	CPUPercent float64    `json:"cpuPercent"`
	Memory     int64      `json:"memoryBytes"`
	Processes  int        `json:"processes"`
	Threads    int        `json:"threads"`
	FDs        int        `json:"openFds"`
	MaxFDs     *int       `json:"maxOpenFds"`
}

func (h *handler) processes(w http.ResponseWriter, _ *http.Request) {
	snap, _ := h.board.Load()
	pod := snap.Pod()
	out := overviewJSON{
		Ready: snap.Ready(),
		Alive: true,
		Pod: podJSON{
			Draining:  pod.Draining,
			Preempted: pod.Preempted,
			Reason:    clip(pod.Reason, maxError),
			Deadline:  known(pod.Deadline),
		},
		Processes: make([]processJSON, 0, snap.Len()),
	}
	for range snap.Dead(time.Now()) {
		out.Alive = false
		break
	}
	for st := range snap.All {
		out.Processes = append(out.Processes, h.describe(st))
	}
	writeJSON(w, out)
}

func (h *handler) process(w http.ResponseWriter, r *http.Request) {
	if st, ok := h.find(w, r.PathValue("name")); ok {
		writeJSON(w, h.describe(st))
	}
}

func (h *handler) describe(st status.State) processJSON {
	p := processJSON{
		Name:     st.Name,
		Phase:    string(st.Phase),
		Ready:    st.Phase.Ready(),
		Restarts: st.Restarts,
		Since:    known(st.Since),
		Started:  known(st.Started),
		Ended:    known(st.Ended),
		Next:     known(st.Next),
		KillAt:   known(h.killAt(st)),
		Cause:    message(st.Cause),
		Reason:   st.Reason,
		Detail:   clip(st.Detail, maxError),
		Probes:   []probeJSON{},
	}
	if st.PID > 0 {
		p.PID = &st.PID
	}
	if !st.Ended.IsZero() && st.ExitCode >= 0 {
		p.ExitCode = &st.ExitCode
	}
	for _, c := range h.board.Checks(st.Name) {
		p.Probes = append(p.Probes, probeJSON{
			Name:     c.Probe,
			Result:   string(c.Result),
			Error:    message(c.Err),
			Time:     known(c.Time),
			Duration: c.Duration.Seconds(),
			Failures: c.Failures,
		})
	}
	p.Usage = h.usage(st)
	if h.Lock != nil {
		if l, ok := h.Lock(st.Name); ok {
			p.Lock = &l
		}
	}
	return p
}

// killAt is when a process that is being stopped is killed, or was: the pod may
// have less time than the process.
func (h *handler) killAt(st status.State) time.Time {
	snap, _ := h.board.Load()
	if pod := snap.Pod(); !st.KillAt.IsZero() && pod.Draining && pod.Deadline.Before(st.KillAt) {
		return pod.Deadline
	}
	return st.KillAt
}

// usage returns what the process uses now: nothing of an incarnation before
// this one, and of one that is gone only its CPU time.
func (h *handler) usage(st status.State) *usageJSON {
	if h.Usage == nil {
		return nil
	}
	u, ok := h.Usage(st.Name)
	switch {
	case !ok, st.PID > 0 && u.Time.Before(st.Started):
		return nil
	case st.PID == 0:
		u = Usage{Time: u.Time, CPU: u.CPU}
	}
	out := &usageJSON{known(u.Time), u.CPU.Seconds(), u.CPUPercent, u.Memory, u.Processes, u.Threads, u.FDs, nil}
	if u.MaxFDs > 0 {
		out.MaxFDs = &u.MaxFDs
	}
	return out
}

// known returns nil for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func message(err error) *string {
	if err == nil {
		return nil
	}
	s := clip(err.Error(), maxError)
	return &s
}

func writeJSON(w http.ResponseWriter, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // a duration of NaN, not something that the world can cause
		http.Error(w, "encode: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b.Bytes()) // the client left: nobody to tell
}

// object writes {name: value} in declared order, which a map would not keep.
func object(w http.ResponseWriter, snap *status.Snapshot, value func(status.State) (string, bool)) {
	b := []byte{'{'}
	for st := range snap.All {
		v, ok := value(st)
		if !ok {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, err := json.Marshal(st.Name)
		if err != nil { // strings cannot fail
			continue
		}
		b = append(append(append(b, name...), ':'), v...)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(append(b, '}', '\n')) // the client left: nobody to tell
}

func (h *handler) status(w http.ResponseWriter, _ *http.Request) {
	snap, _ := h.board.Load()
	object(w, snap, func(st status.State) (string, bool) {
		return strconv.FormatBool(st.Phase.Ready()), st.Phase != status.Skipped
	})
}

func (h *handler) pids(w http.ResponseWriter, _ *http.Request) {
	snap, _ := h.board.Load()
	object(w, snap, func(st status.State) (string, bool) {
		return strconv.Itoa(st.PID), st.PID > 0
	})
}

func (h *handler) pidof(w http.ResponseWriter, r *http.Request) {
	st, ok := h.named(w, r)
	if !ok {
		return
	}
	if st.PID <= 0 {
		http.Error(w, "process "+clip(st.Name, 64)+" is not alive: "+string(st.Phase), http.StatusNotFound)
		return
	}
	text(w, http.StatusOK, strconv.Itoa(st.PID))
}

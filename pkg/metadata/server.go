package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Personality says which cloud a server plays.
type Personality string

// The personalities. All serves the three clouds at once: their paths differ.
const (
	GCE                 Personality = "gce"
	GKEWorkloadIdentity Personality = "gke-wi" // what pods see on GKE with Workload Identity: nobody for some seconds, then no preempted
	AWS                 Personality = "aws"
	Azure               Personality = "azure"
	All                 Personality = "all"
)

// How long the clouds give from the notice to the end, where Config.Notice does not say.
const (
	noticeAWS   = 2 * time.Minute
	noticeAzure = 30 * time.Second
)

// warmUpGKE is for how long a new pod is refused on GKE, where Config.WarmUp does not say: Google
// speaks of a few seconds.
const warmUpGKE = 3 * time.Second

// defaultWaiters is about what the real server bears.
const defaultWaiters = 500

var (
	errTooMany = errors.New("too many requests wait for a change")
	errClosed  = errors.New("server closed")
)

// Config says what a Server plays. The zero value is a Spot VM on GCE without a notice.
type Config struct {
	Personality Personality   // "" is GCE
	Notice      time.Duration // from the notice to the end of the machine; 0: GCE 0s, AWS 2m, Azure 30s; may be negative for a late notice
	WarmUp      time.Duration // for how long after NewServer or Reset connections are refused, as a fault that can be cleared; 0: GKEWorkloadIdentity 3s, else not; below zero: not
	Seed        uint64        // of probabilities and garbage; the same seed gives the same run
	MaxWaiters  int           // how many requests may wait at the same time, 503 for more; 0: 500
	Logger      *slog.Logger  // nil: no log
	Record      io.Writer     // gets a line of JSON for each request, see [Request]; may be nil
}

// Server is a metadata server. It is an http.Handler, ready for httptest.NewServer; close it
// before that server, as the requests that wait end then. With [Server.Serve] it can also refuse connections.
type Server struct {
	config Config
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	tree    *node
	waiting int
	faults  []*activeFault
	random  *rand.Rand
	notice  notice
	azure   azureState
	tokens  map[string]time.Time // of AWS, with their ends
	stats   stats
	changed chan struct{} // closed at any change of the state; exists once somebody waits

	recordMu  sync.Mutex // guards what follows
	recording *json.Encoder
}

// notice is what the clouds say of the end of the machine.
type notice struct {
	preempted bool
	deadline  time.Time
	action    string    // of AWS: terminate, stop, hibernate; "" when the notice was taken back
	rebalance time.Time // of AWS; zero: no recommendation
}

// NewServer makes a server. It fails for an unknown personality.
func NewServer(c Config) (*Server, error) {
	switch c.Personality {
	case "":
		c.Personality = GCE
	case GCE, GKEWorkloadIdentity, AWS, Azure, All:
	default:
		return nil, fmt.Errorf("personality %q: use gce, gke-wi, aws, azure or all", c.Personality)
	}
	if c.MaxWaiters <= 0 {
		c.MaxWaiters = defaultWaiters
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	if c.Record != nil {
		s.recording = json.NewEncoder(c.Record)
		s.recording.SetEscapeHTML(false)
	}
	s.fresh()
	return s, s.warmUp()
}

// fresh puts everything back to the beginning but who waits.
func (s *Server) fresh() {
	s.tree = newTree(s.config.Personality, s.config.Notice > 0)
	s.notice = notice{}
	s.azure = azureState{incarnation: s.azure.incarnation + 1}
	s.tokens = map[string]time.Time{}
	s.random = rand.New(rand.NewPCG(s.config.Seed, 0))
	s.stats = stats{codes: map[string]uint64{}, faults: map[string]uint64{}, paths: map[string]uint64{}}
}

// warmUp refuses who comes in the first seconds, where that is to be so.
func (s *Server) warmUp() error {
	d := s.config.WarmUp
	if d == 0 && s.config.Personality == GKEWorkloadIdentity {
		d = warmUpGKE
	}
	if d <= 0 {
		return nil
	}
	return s.Inject(Fault{Mode: modeRefuse, For: d})
}

// Close ends the requests that wait or hang.
func (s *Server) Close() {
	s.cancel(errClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropFaults()
}

// ServeHTTP answers as a metadata server, or as a fault says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := &observed{ResponseWriter: w}
	start := time.Now()
	fault := s.pick(r.URL.Path)
	defer func() { s.note(seen, r, start, fault) }() // also where the connection is cut
	s.inject(fault, seen, r)
}

// serve answers without a fault. A quick answer does not wait for changes.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, quick bool) {
	switch s.playing(r.URL.Path) {
	case AWS:
		s.serveAWS(w, r)
	case Azure:
		s.serveAzure(w, r)
	default:
		s.serveGCE(w, r, quick)
	}
}

// Preempt gives the notice of preemption, on all clouds that the server plays. The second call changes
// nothing: the first deadline stands.
func (s *Server) Preempt() { s.preempt("terminate", s.config.Notice) }

func (s *Server) preempt(action string, left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &s.notice
	if n.preempted && n.action != "" {
		return
	}
	now := time.Now()
	n.preempted, n.action, n.deadline = true, action, now.Add(s.untilEnd(left))
	s.mustSet(pathPreempted, "TRUE")
	if s.tree.find(pathStopState) != nil {
		s.mustSet(pathStopState, "PENDING_STOP")
	}
	s.azure.add(AzureEvent{Type: "Preempt", Resources: []string{vmName}, NotBefore: now.Add(orElse(left, noticeAzure))}, now)
	s.config.Logger.Info("preempted", "deadline", n.deadline.UTC().Format(time.RFC3339))
	s.stir()
}

// untilEnd is the notice of the cloud that is played.
func (s *Server) untilEnd(left time.Duration) time.Duration {
	switch s.config.Personality {
	case AWS, All:
		return orElse(left, noticeAWS)
	case Azure:
		return orElse(left, noticeAzure)
	default:
		return left
	}
}

func orElse(d, other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return d
}

// Cancel takes the notices of AWS and Azure back, as these clouds may. GCE never does.
func (s *Server) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice.action, s.notice.rebalance = "", time.Time{}
	s.azure.clear()
	if p := s.config.Personality; p == AWS || p == Azure {
		s.notice.preempted = false
	}
	s.config.Logger.Info("notices of AWS and Azure taken back")
	s.stir()
}

// Rebalance gives the rebalance recommendation of AWS.
func (s *Server) Rebalance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notice.rebalance.IsZero() {
		s.notice.rebalance = time.Now()
		s.config.Logger.Info("rebalance recommended")
	}
	s.stir()
}

// Maintenance sets the maintenance event of GCE: NONE, MIGRATE_ON_HOST_MAINTENANCE or
// TERMINATE_ON_HOST_MAINTENANCE.
func (s *Server) Maintenance(event string) error {
	if !slices.Contains([]string{"NONE", "MIGRATE_ON_HOST_MAINTENANCE", "TERMINATE_ON_HOST_MAINTENANCE"}, event) {
		return fmt.Errorf("maintenance %q: use NONE, MIGRATE_ON_HOST_MAINTENANCE or TERMINATE_ON_HOST_MAINTENANCE", event)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.tree.find(pathMaintenance)
	if old == nil || old.equal(leaf(event)) {
		return nil
	}
	s.mustSet(pathMaintenance, event)
	upcoming := leaf("NONE")
	if event != "NONE" {
		begin := time.Now().Add(time.Minute).UTC()
		upcoming = dir(map[string]*node{
			"can-reschedule":           leaf("FALSE"),
			"latest-window-start-time": leaf(begin.Format(time.RFC3339)),
			"maintenance-status":       leaf("PENDING"),
			"type":                     leaf("SCHEDULED"),
			"window-start-time":        leaf(begin.Format(time.RFC3339)),
			"window-end-time":          leaf(begin.Add(time.Hour).Format(time.RFC3339)),
		})
	}
	if err := s.tree.put(pathUpcoming, upcoming); err != nil {
		return err
	}
	s.config.Logger.Info("maintenance", "event", event)
	s.stir()
	return nil
}

// Set gives a key below /computeMetadata/v1/ a value, and makes the key where there is none. A
// list is given with commas. Setting instance/preempted back to FALSE is for tests: GCE never does.
func (s *Server) Set(path, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set(path, value); err != nil {
		return err
	}
	if path == pathPreempted {
		s.notice.preempted = value == "TRUE"
	}
	return nil
}

func (s *Server) set(path, value string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	old := s.tree.find(path)
	new, err := assign(old, path, value)
	if err != nil || new.equal(old) {
		return err
	}
	if err := s.tree.put(path, new); err != nil {
		return err
	}
	s.stir()
	return nil
}

// mustSet sets a key that exists, and does nothing where the personality hides it.
func (s *Server) mustSet(path, value string) {
	if s.tree.find(path) != nil {
		_ = s.set(path, value) // a known path and a short text
	}
}

// Delete removes a key or directory below /computeMetadata/v1/. Those who wait for it get 404.
func (s *Server) Delete(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.tree.remove(path); err != nil {
		return err
	}
	s.stir()
	return nil
}

// Reset puts values, notices, faults, counters and the request log back to the beginning. It wakes all
// who wait.
func (s *Server) Reset() {
	s.reset()
	_ = s.warmUp() // it is the only fault, and a good one
}

func (s *Server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.tree
	s.fresh()
	s.dropFaults()
	old.wake()
	s.config.Logger.Info("reset")
	s.stir()
}

func (s *Server) enterWait() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= s.config.MaxWaiters {
		return errTooMany
	}
	s.waiting++
	s.stir()
	return nil
}

func (s *Server) leaveWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	s.stir()
}

// stir wakes who waits for a change of the state.
func (s *Server) stir() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// stirred returns a channel that is closed at the next change.
func (s *Server) stirred() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

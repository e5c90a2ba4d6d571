package etcdstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// value is what etcd keeps of a holder. A value that is not ours, as other servers of the old
// protocol write it, has no version: its time is kept by its lease alone.
type value struct {
	Version int               `json:"v"`
	Nonce   string            `json:"nonce"`   // tells two tries of one client apart
	Replica string            `json:"replica"` // who keeps the time
	Owner   string            `json:"owner,omitempty"`
	Host    string            `json:"host,omitempty"`
	Pod     string            `json:"pod,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	At      int64             `json:"at"`  // Unix ms
	TTL     int64             `json:"ttl"` // ms
	Delay   int64             `json:"delay,omitempty"`
	Slots   int               `json:"slots,omitempty"` // 0 for 1
	Session string            `json:"session,omitempty"`
	Exposed bool              `json:"exposed,omitempty"` // the client knows the lease
	Lease   int64             `json:"lease,omitempty"`   // the lifetime of the lease in s
}

const version = 1

func newValue(req lock.Request, replica string, nonce uint64) value {
	v := value{
		Version: version, Nonce: strconv.FormatUint(nonce, 36), Replica: replica,
		Owner: req.Owner, Host: req.Host, Pod: req.Pod, Labels: req.Labels,
		At: time.Now().UnixMilli(), TTL: millis(req.TTL), Delay: millis(req.LockDelay),
		Exposed: req.Expose, Lease: lifetime(req.TTL + req.LockDelay),
	}
	if req.Slots > 1 {
		v.Slots = req.Slots
	}
	if req.Session != "" {
		v.Session = sessionName(req.Namespace, req.Session)
	}
	return v
}

// millis rounds up.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func (v *value) encode() string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and a map of strings
	}
	return string(b)
}

// decode never fails: what is not ours has version 0.
func decode(b []byte) value {
	var v value
	if json.Unmarshal(b, &v) != nil || v.Version != version || v.TTL <= 0 || v.TTL > maxMillis || v.Delay < 0 || v.Delay > maxMillis {
		return value{}
	}
	return v
}

// maxMillis bounds what is believed of a stored duration.
const maxMillis = int64(48 * time.Hour / time.Millisecond)

func (v *value) ttl() time.Duration { return time.Duration(v.TTL) * time.Millisecond }

// keep is how long the key stays after a renewal.
func (v *value) keep() time.Duration { return time.Duration(v.TTL+v.Delay) * time.Millisecond }

// holder translates what etcd keeps. Remaining is not known.
func (s *Store) holder(kv *mvccpb.KeyValue) (lock.Holder, bool) {
	name, slot, ok := s.parseKey(string(kv.Key))
	if !ok {
		return lock.Holder{}, false
	}
	v := decode(kv.Value)
	h := lock.Holder{
		Ref: lock.Ref{Name: name, Token: kv.CreateRevision}, Lease: kv.Lease, Slot: slot, Slots: max(v.Slots, 1),
		Owner: v.Owner, Host: v.Host, Pod: v.Pod, Labels: v.Labels, TTL: v.ttl(), Remaining: -1,
	}
	if v.Version == version {
		h.AcquiredAt = time.UnixMilli(v.At)
	}
	return h, true
}

// sessionName is what others may know of a session.
func sessionName(namespace, session string) string {
	sum := sha256.Sum256([]byte("name\x00" + namespace + "\x00" + session))
	return hex.EncodeToString(sum[:12])
}

// sessionLease derives the id of the lease of a session, so that every replica finds it without
// asking. A session has one for each lifetime that its locks need.
func sessionLease(namespace, session string, lifetime int64) int64 {
	sum := sha256.Sum256([]byte("lease\x00" + namespace + "\x00" + session + "\x00" + strconv.FormatInt(lifetime, 10)))
	return max(int64(binary.BigEndian.Uint64(sum[:8])>>1), 1)
}

// The slack of a lease is how much longer it lives than the lock needs: so long it may lie in the
// pool, and so often a renewal need not be passed on.
const (
	minSlack = 2
	maxSlack = 10
)

// lifetime returns the TTL in seconds of a lease for locks that are kept so long.
func lifetime(keep time.Duration) int64 {
	seconds := int64((keep + time.Second - 1) / time.Second)
	return seconds + min(max(seconds/2, minSlack), maxSlack)
}

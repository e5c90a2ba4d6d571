package sink

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Record is one event as a sink keeps it. The slices are valid until the call that hands it over
// returns.
type Record struct {
	Time time.Time
	Key  []byte // what its backend sorts by: an index, a set of labels
	ID   []byte // what makes it unique there; may be empty
	Body []byte // a JSON object: see AppendEvent
}

// A frame is a record in the queue and in a segment file, numbers little-endian:
//
//	magic uint32 | length of payload uint32 | CRC-32C of payload uint32 | payload
//
// and its payload is
//
//	time int64, ns since 1970 | length of key uint16 | length of id uint16 | key | id | body
const (
	magic      = 0x1f9d5ace
	headerSize = 12
	fixedSize  = 12
	maxPayload = 1 << 20 // AppendEvent makes at most 6 bytes of one: a datagram of 65,507 always fits
	maxShort   = 1<<16 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends r to dst, or says that it is too large.
func appendFrame(dst []byte, r *Record) ([]byte, bool) {
	n := fixedSize + len(r.Key) + len(r.ID) + len(r.Body)
	if n > maxPayload || len(r.Key) > maxShort || len(r.ID) > maxShort {
		return dst, false
	}
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Time.UnixNano()))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.Key)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.ID)))
	dst = append(dst, r.Key...)
	dst = append(dst, r.ID...)
	dst = append(dst, r.Body...)
	sum := crc32.Checksum(dst[start+headerSize:], castagnoli)
	binary.LittleEndian.PutUint32(dst[start+8:], sum)
	return dst, true
}

// What parseFrame finds.
type found uint8

const (
	whole   found = iota
	partial       // more bytes may make it whole
	corrupt       // no bytes will
)

// parseFrame reads the frame at the start of b, and its size.
func parseFrame(b []byte) (Record, int, found) {
	if len(b) < headerSize {
		return Record{}, 0, partial
	}
	if binary.LittleEndian.Uint32(b) != magic {
		return Record{}, 0, corrupt
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n < fixedSize || n > maxPayload {
		return Record{}, 0, corrupt
	}
	if len(b) < headerSize+n {
		return Record{}, 0, partial
	}
	p := b[headerSize : headerSize+n]
	if crc32.Checksum(p, castagnoli) != binary.LittleEndian.Uint32(b[8:]) {
		return Record{}, 0, corrupt
	}
	key := fixedSize + int(binary.LittleEndian.Uint16(p[8:]))
	id := key + int(binary.LittleEndian.Uint16(p[10:]))
	if id > n {
		return Record{}, 0, corrupt
	}
	ns := int64(binary.LittleEndian.Uint64(p))
	return Record{Time: time.Unix(0, ns), Key: p[fixedSize:key], ID: p[key:id], Body: p[id:]}, headerSize + n, whole
}

// resync returns how many bytes of b to skip so that a magic number may follow. b starts with bytes
// that are no frame.
func resync(b []byte) int {
	for i := 1; i+4 <= len(b); i++ {
		if binary.LittleEndian.Uint32(b[i:]) == magic {
			return i
		}
	}
	return max(1, len(b)-3)
}

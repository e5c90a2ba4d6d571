package wrapper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"
)

// keyWithin is half of how long the rest of a key may take that a terminal sends as more
// than one byte: over a slow line the Escape that it begins with may come alone. It is
// looked for twice, as a read that comes too late finds nothing, whatever there is.
const keyWithin = 25 * time.Millisecond

// read hands on keys.
func (t *top) read(ctx context.Context, in *os.File) {
	buf := make([]byte, 64)
	again := false
	for n := 0; ; {
		more, err := in.Read(buf[n:])
		n += more
		late := errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil
		if err != nil && !late {
			return
		}
		over := late && again
		again = late
		begun := 0
		if !over {
			begun = beginOfKey(buf[:n])
		}
		for _, key := range keysOf(buf[:n-begun]) {
			select {
			case t.keys <- key:
			case <-ctx.Done():
				return
			}
		}
		n = copy(buf, buf[n-begun:n])
		deadline := time.Time{}
		if n > 0 {
			deadline = time.Now().Add(keyWithin)
		}
		if in.SetReadDeadline(deadline) != nil {
			return
		}
		if ctx.Err() != nil { // whoever ends us has set a deadline too, perhaps before
			return
		}
	}
}

// beginOfKey is how many bytes at the end of b may be the begin of a key.
func beginOfKey(b []byte) int {
	at := bytes.LastIndexByte(b, 0x1b)
	if at < 0 || len(b)-at > 16 {
		return 0
	}
	switch rest := b[at+1:]; {
	case len(rest) == 0:
	case rest[0] != '[' && rest[0] != 'O':
		return 0
	case len(rest) > 1 && rest[len(rest)-1] >= '@':
		return 0
	}
	return len(b) - at
}

// escapes are what follows ESC [ or ESC O for a key.
var escapes = map[string]string{
	"A": "up", "B": "down", "5~": "page up", "6~": "page down", "H": "home", "F": "end", "1~": "home", "4~": "end", "7~": "home", "8~": "end",
}

// keysOf takes what a terminal sent apart: escape sequences, and letters.
func keysOf(b []byte) []string {
	var keys []string
	for len(b) > 0 {
		switch {
		case len(b) >= 3 && b[0] == 0x1b && (b[1] == '[' || b[1] == 'O'):
			end := 2
			for end < len(b)-1 && b[end] < '@' { // a number, and what follows it
				end++
			}
			if name := escapes[string(b[2:end+1])]; name != "" {
				keys = append(keys, name)
			}
			b = b[end+1:]
		default:
			keys = append(keys, string(b[:1]))
			b = b[1:]
		}
	}
	return keys
}

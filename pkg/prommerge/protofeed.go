package prommerge

import (
	"encoding/binary"
	"errors"
)

// feed reads delimited messages from r to its end.
func (s *protoScanner) feed(r *meter) error {
	k := newBlock()
	defer func() { k.release() }()
	rest, err := k.read(r, s)
	if err == nil && len(rest) > 0 {
		err = &targetError{reason: reasonTruncated, err: errors.New("the body ended within a message")}
	}
	return err
}

// block splices the whole messages of b.
func (s *protoScanner) block(b []byte) (done int, err error) {
	if done, err = s.messages(b); err != nil {
		err = asSyntax(err)
	}
	return done, err
}

// messages splices the whole messages of b and returns how much of it that is.
func (s *protoScanner) messages(b []byte) (done int, err error) {
	s.ix.mu.RLock()
	defer s.ix.mu.RUnlock()
	for {
		msg, n, err := delimited(b[done:])
		if err != nil || n == 0 {
			return done, err
		}
		if err := s.message(msg); err != nil {
			return done, err
		}
		done += n
	}
}

// delimited splits the first message off b; n is 0 where b does not hold all of it.
func delimited(b []byte) (msg []byte, n int, err error) {
	l, k := binary.Uvarint(b)
	if k < 0 || k > binary.MaxVarintLen32 || l > 1<<30 {
		return nil, 0, errProto
	}
	if k == 0 || uint64(len(b)-k) < l {
		if k == 0 && len(b) > binary.MaxVarintLen32 {
			return nil, 0, errProto
		}
		return nil, 0, nil
	}
	return b[k : k+int(l)], k + int(l), nil
}

// Package metadata is a metadata server of a virtual machine that is about to be preempted: those
// of GCE, AWS and Azure, as they answer in truth and as they fail. It is for tests and for
// rehearsals on a laptop.
//
//	m, err := metadata.NewServer(metadata.Config{})
//	web := httptest.NewServer(m)
//	defer web.Close()
//	defer m.Close()
//	… ask web.URL + "/computeMetadata/v1/instance/preempted" with wait_for_change=true
//	m.Preempt()
//
// On GCE a request with wait_for_change is held until the value changes, by event: there is no
// polling inside. With last_etag it is answered at once when that is not the ETag of the value,
// and after timeout_sec it is answered with the value as it is. The ETag is made of the value
// alone, so a value that came back looks unchanged.
//
// A [Fault] makes requests fail: see [ParseFault]. [Server.Control] is a handler for another
// listener, through which a test or a person changes all that.
package metadata

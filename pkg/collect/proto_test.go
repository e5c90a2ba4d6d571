package collect

import (
	"errors"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const acceptProto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

func TestProtobufSaysWhatTextSays(t *testing.T) {
	r := NewRegistry(Limits{})
	r.give(t, `{"name":"c","op":"inc","value":2,"help":"h","labels":{"x":"1","y":"2"}}{"name":"g","op":"set","value":-3.5}`+
		`{"name":"h","op":"obs","value":3,"bucket_custom":[1,5],"labels":{"x":"1"}}{"name":"n","op":"obs","value":3,"native":true,"labels":{"x":"1"}}{"name":"n","op":"obs","value":100,"labels":{"x":"1"}}`)
	text := parsePage(t, r.page(t))
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Accept", acceptProto)
	w := httptest.NewRecorder()
	r.Handler(prometheus.NewRegistry()).ServeHTTP(w, req)
	dec := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	all := map[string]*dto.MetricFamily{}
	for {
		var f dto.MetricFamily
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all[f.GetName()] = &f
	}
	if len(all) != 4 {
		t.Fatalf("families: %v", all)
	}
	n := all["n"].GetMetric()[0].GetHistogram()
	if n.GetSampleCount() != 2 || n.GetSampleSum() != 103 || n.Schema == nil || len(n.GetPositiveDelta()) != 2 {
		t.Errorf("the native histogram is %v", n)
	}
	if l := all["n"].GetMetric()[0].GetLabel(); len(l) != 1 || l[0].GetValue() != "1" {
		t.Errorf("its labels are %v", l)
	}
	for _, name := range []string{"c", "g", "h"} {
		want, got := text[name], all[name]
		if name == "h" { // of which text has one more bucket
			b := want.GetMetric()[0].GetHistogram()
			b.Bucket = b.Bucket[:2]
		}
		if want.String() != got.String() {
			t.Errorf("text %v\nprotobuf %v", want, got)
		}
	}
}

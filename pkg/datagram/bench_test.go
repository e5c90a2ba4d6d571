package datagram

import (
	"encoding/json"
	"testing"
)

var benchInputs = []struct{ name, in string }{
	{"inc110", `{"name":"http_requests_total","op":"inc","value":1,"labels":{"path":"/api/v1/items/17","code":"200"}}`},
	{"obs", `{"name":"request_duration_seconds","op":"obs","value":0.0234,"help":"How long requests took.","labels":{"service":"checkout","method":"POST","code":"200","zone":"eu-1","pod":"checkout-5"},"bucket_custom":[0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10]}`},
}

func BenchmarkDecode(b *testing.B) {
	for _, tt := range benchInputs {
		in := []byte(tt.in)
		b.Run(tt.name+"/ours", func(b *testing.B) {
			var d Decoder
			b.ReportAllocs()
			for b.Loop() {
				d.Reset(in, false)
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(tt.name+"/encoding_json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var r reference
				if err := json.Unmarshal(in, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

{{- define "pw.args" -}}
- -udp=:9999
- -uds=
- -socket=:9099
- -metric-ttl={{ .Values.metricTTL }}
- -max-series={{ int64 .Values.maxSeries }}
- -shutdown-delay={{ int .Values.shutdownDelaySeconds }}s
- -shutdown-deadline={{ int .Values.shutdownDeadlineSeconds }}s
{{- with .Values.extraLabels }}
{{- $pairs := list }}
{{- range $k, $v := . }}{{ $pairs = append $pairs (printf "%s:%v" $k $v) }}{{ end }}
- -extra-labels={{ join "," $pairs }}
{{- end }}
{{- with .Values.allowCIDR }}
- -allow-cidr={{ join "," . }}
{{- end }}
{{- with .Values.rateLimit }}
- -rate-limit={{ . }}
{{- end }}
{{- with int .Values.statsdPort }}
- -statsd=:{{ . }}
{{- end }}
{{- with .Values.spool }}
{{- if .enabled }}
- -spool-dir=/var/lib/metrics-server
- -spool-bytes={{ int64 .bytes }}
{{- end }}
{{- end }}
{{- with .Values.loki }}
{{- if .address }}
- -loki-address={{ .address }}
- -loki-labels={{ join "," .labels }}
{{- with .tenant }}
- -loki-tenant={{ . }}
{{- end }}
{{- if .tlsSecretName }}
- -loki-ca-path=/etc/metrics-server/loki/ca.crt
{{- if .clientCertificate }}
- -loki-cert-path=/etc/metrics-server/loki/tls.crt
- -loki-key-path=/etc/metrics-server/loki/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.search.url }}
- -search-index={{ .Values.search.index }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

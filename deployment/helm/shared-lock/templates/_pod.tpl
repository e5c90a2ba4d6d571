{{- define "pw.args" -}}
- -listen=:8191
- -shutdown-delay={{ int .Values.shutdownDelaySeconds }}s
{{- if .Values.embeddedEtcd.enabled }}
- -embedded-etcd=/var/lib/shared-lock
{{- else }}
- -etcd-endpoints={{ join "," .Values.etcd.endpoints }}
- -etcd-prefix={{ .Values.etcd.prefix }}
{{- with .Values.etcd.tls }}
{{- if .enabled }}
- -shared-lock-etcd-tls
- -etcd-ca-cert=/etc/shared-lock/etcd/ca.crt
{{- if .clientCertificate }}
- -etcd-client-cert=/etc/shared-lock/etcd/tls.crt
- -etcd-client-key=/etc/shared-lock/etcd/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.tls }}
{{- if .secretName }}
- -tls-cert=/etc/shared-lock/tls/tls.crt
- -tls-key=/etc/shared-lock/tls/tls.key
{{- if .clientCA }}
- -tls-client-ca=/etc/shared-lock/tls/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.access.secretName }}
- -access-file=/etc/shared-lock/access/access.json
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A probe of a path; where clients need a certificate, of the port. */}}
{{- define "pw.probe" -}}
{{- $root := index . 0 -}}
{{- if and $root.Values.tls.secretName $root.Values.tls.clientCA -}}
tcpSocket: {port: http}
{{- else -}}
httpGet: {path: {{ index . 1 }}, port: http{{ if $root.Values.tls.secretName }}, scheme: HTTPS{{ end }}}
{{- end -}}
{{- end }}

{{- define "pw.secrets" -}}
{{- if and .Values.etcd.tls.enabled (not .Values.embeddedEtcd.enabled) }}
- {name: etcd-tls, dir: etcd, secret: {{ .Values.etcd.tls.secretName }}}
{{- end }}
{{- with .Values.tls.secretName }}
- {name: tls, dir: tls, secret: {{ . }}}
{{- end }}
{{- with .Values.access.secretName }}
- {name: access, dir: access, secret: {{ . }}}
{{- end }}
{{- end }}

{{- define "pw.affinity" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "pw.selector" . | fromYaml)) -}}
{{- if eq .Values.antiAffinity "hard" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    {{- list $term | toYaml | nindent 4 }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    {{- list (dict "weight" 100 "podAffinityTerm" $term) | toYaml | nindent 4 }}
{{- end -}}
{{- end }}

{{- define "pw.pod" -}}
metadata:
  labels:
    {{- include "pw.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if and .Values.monitoring.annotations (not .Values.monitoring.serviceMonitor.enabled) }}
    {{- include "pw.scrape" (list 8191 "/metrics") | nindent 4 }}
    {{- if .Values.tls.secretName }}
    prometheus.io/scheme: https
    {{- end }}
    {{- end }}
    kubectl.kubernetes.io/default-container: {{ include "pw.name" . }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pw.serviceAccount" . }}
  automountServiceAccountToken: false
  {{- if le (int .Values.terminationGracePeriodSeconds) (int .Values.shutdownDelaySeconds) }}
  {{- fail (printf "terminationGracePeriodSeconds: %d must be more than shutdownDelaySeconds (%d)" (int .Values.terminationGracePeriodSeconds) (int .Values.shutdownDelaySeconds)) }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- include "pw.scheduling" . | nindent 2 }}
  {{- if and (not .Values.affinity) (ne .Values.antiAffinity "none") }}
  affinity:
    {{- include "pw.affinity" . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ include "pw.name" . }}
      image: {{ include "pw.image" (list . .Values.image) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- include "pw.args" . | nindent 8 }}
      ports:
        - name: http
          containerPort: 8191
      readinessProbe:
        {{- include "pw.probe" (list . "/ready") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 1
        failureThreshold: 1
      livenessProbe:
        {{- include "pw.probe" (list . "/health") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 2
        failureThreshold: 3
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- range include "pw.secrets" . | fromYamlArray }}
        - name: {{ .name }}
          mountPath: /etc/shared-lock/{{ .dir }}
          readOnly: true
        {{- end }}
        {{- if .Values.embeddedEtcd.enabled }}
        - name: data
          mountPath: /var/lib/shared-lock
        {{- end }}
  volumes:
    {{- range include "pw.secrets" . | fromYamlArray }}
    - name: {{ .name }}
      secret: {secretName: {{ .secret }}}
    {{- end }}
{{- end }}

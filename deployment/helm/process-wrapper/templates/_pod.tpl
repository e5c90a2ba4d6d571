{{/* Time for the pod: more than process-wrapper takes at most. */}}
{{- define "pw.grace" -}}
{{- $deadline := int .Values.gracefulShutdownDeadlineSeconds -}}
{{- $grace := int (.Values.terminationGracePeriodSeconds | default (add $deadline 5)) -}}
{{- if le $grace $deadline -}}
{{ fail (printf "terminationGracePeriodSeconds: %d must be more than gracefulShutdownDeadlineSeconds (%d): the kubelet would kill process-wrapper before it has stopped its processes" $grace $deadline) }}
{{- end -}}
{{- if ge (int .Values.drainDelaySeconds) $deadline -}}
{{ fail (printf "drainDelaySeconds: %d must be less than gracefulShutdownDeadlineSeconds (%d), of which it is a part" (int .Values.drainDelaySeconds) $deadline) }}
{{- end -}}
{{ $grace }}
{{- end }}

{{- define "pw.args" -}}
- -config=/etc/process-wrapper
- -graceful-shutdown-deadline={{ int .Values.gracefulShutdownDeadlineSeconds }}s
{{- with int .Values.drainDelaySeconds }}
- -drain-delay={{ . }}s
{{- end }}
{{- if .Values.configWatch }}
- -config-watch
{{- end }}
{{- if or .Values.handlePreemption .Values.handleTermination }}
- -preemption-action={{ .Values.preemptionAction }}
{{- end }}
{{- if .Values.envoyDrain.enabled }}
- -envoy-drain
{{- end }}
{{- with .Values.mainContainers }}
- -main-containers={{ join "," . }}
{{- end }}
{{- with .Values.sharedLock.url }}
- -shared-lock-url={{ . }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pw.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: HEALTH_SOCKET
  value: ":{{ int .Values.healthPort }}"
- name: LOG_FORMAT
  value: {{ .Values.logFormat }}
{{- if .Values.handlePreemption }}
- name: HANDLE_PREEMPTION
  value: "true"
{{- end }}
{{- if .Values.handleTermination }}
- name: HANDLE_TERMINATION
  value: "true"
{{- end }}
{{- if .Values.envoyDrain.enabled }}
- name: ENVOY_DRAIN_URL
  value: {{ .Values.envoyDrain.url | quote }}
{{- end }}
{{- with .Values.metricsServer }}
{{- if .address }}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: METRICS_SERVER_ADDRESS
  value: {{ .address | quote }}
- name: METRICS_EXTRA_LABELS_FILE_PATH
  value: /etc/podinfo/labels
{{- with .excludePodLabels }}
- name: METRICS_EXTRA_LABELS_FILE_EXCLUDE
  value: {{ join "," . | quote }}
{{- end }}
{{- with .extraLabels }}
- name: METRICS_JSON_EXTRA_LABELS
  value: {{ toJson . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pw.container" -}}
- name: {{ include "pw.name" . }}
  image: {{ include "pw.image" (list . .Values.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    {{- if eq .Values.strategy "inject" }}
    - {{ .Values.inject.mountPath }}/process-wrapper
    {{- else }}
    {{- toYaml .Values.command | nindent 4 }}
    {{- end }}
  args:
    {{- include "pw.args" . | nindent 4 }}
  env:
    {{- include "pw.env" . | nindent 4 }}
  {{- with .Values.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: health
      containerPort: {{ int .Values.healthPort }}
    {{- range .Values.ports }}
    - name: {{ .name }}
      containerPort: {{ int .containerPort }}
      protocol: {{ .protocol | default "TCP" }}
    {{- end }}
  {{- with .Values.startupProbe }}
  startupProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.readinessProbe }}
  readinessProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.livenessProbe }}
  livenessProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - name: config
      mountPath: /etc/process-wrapper
      readOnly: true
    - name: podinfo
      mountPath: /etc/podinfo
      readOnly: true
    - name: run
      mountPath: /run/process-wrapper
    - name: tmp
      mountPath: /tmp
    {{- if eq .Values.strategy "inject" }}
    - name: process-wrapper
      mountPath: {{ .Values.inject.mountPath }}
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "pw.initContainers" -}}
{{- if eq .Values.strategy "inject" }}
- name: inject
  image: {{ include "pw.image" (list . .Values.inject.image) }}
  imagePullPolicy: {{ .Values.inject.image.pullPolicy }}
  args: [/shared/]
  resources:
    {{- toYaml .Values.inject.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - name: process-wrapper
      mountPath: /shared
{{- end }}
{{- with .Values.extraInitContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pw.volumes" -}}
- name: config
  configMap:
    name: {{ .Values.existingConfigMap | default (include "pw.fullname" .) }}
- name: podinfo
  downwardAPI:
    items:
      - path: labels
        fieldRef: {fieldPath: metadata.labels}
      - path: name
        fieldRef: {fieldPath: metadata.name}
- name: run
  emptyDir: {sizeLimit: 1Mi}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.tmp.sizeLimit }}}
{{- if eq .Values.strategy "inject" }}
- name: process-wrapper
  emptyDir: {sizeLimit: {{ .Values.inject.sizeLimit }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pw.pod" -}}
metadata:
  labels:
    {{- include "pw.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if and .Values.monitoring.annotations (not .Values.monitoring.podMonitor.enabled) }}
    {{- include "pw.scrape" (list (int .Values.healthPort) "/metrics") | nindent 4 }}
    {{- end }}
    {{- if not (or .Values.configWatch .Values.existingConfigMap) }}
    checksum/config: {{ .Values.processes | toYaml | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: {{ include "pw.name" . }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pw.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.handleTermination }}
  terminationGracePeriodSeconds: {{ include "pw.grace" . }}
  {{- if eq .Values.kind "Job" }}
  restartPolicy: {{ .Values.job.restartPolicy }}
  {{- end }}
  {{- include "pw.scheduling" . | nindent 2 }}
  {{- with include "pw.initContainers" . | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "pw.container" . | nindent 4 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "pw.volumes" . | nindent 4 }}
{{- end }}

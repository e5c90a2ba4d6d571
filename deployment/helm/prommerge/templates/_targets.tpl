{{- define "pw.targets" -}}
targets:
  {{- .Values.targets | toYaml | nindent 2 }}
{{- with .Values.fileSD }}
fileSD:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

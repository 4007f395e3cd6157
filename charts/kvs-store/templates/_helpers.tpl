{{- define "kvs-store.name" -}}
{{- default .Release.Name .Values.name }}
{{- end }}

{{- define "kvs-store.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: aryavarth-kvs
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The test's image: the store's own, or the one of this chart's version. */}}
{{- define "kvs-store.testImage" -}}
{{- $image := .Values.test.image }}
{{- $registry := default $image.registry (get (default dict .Values.global) "imageRegistry") }}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") }}
{{- if get .Values "image" }}
{{- get .Values "image" }}
{{- else if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

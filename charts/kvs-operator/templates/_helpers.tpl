{{/* The chart's name, or what the person calls it. */}}
{{- define "kvs-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of every object: the release's, with the chart's where the release's does not hold it. At most 48
characters, so that what is added to it fits. */}}
{{- define "kvs-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "kvs-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kvs-operator.name" .) | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects the operator's pod. It can't change, so it holds no version. */}}
{{- define "kvs-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kvs-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kvs-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "kvs-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: aryavarth-kvs
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kvs-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kvs-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image's full name: (dict "image" .Values.image "root" $). */}}
{{- define "kvs-operator.image" -}}
{{- $global := default dict .root.Values.global }}
{{- $registry := default .image.registry (get $global "imageRegistry") }}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* Other charts write a Secret of `global` as a name alone. */}}
{{- define "kvs-operator.pullSecrets" -}}
{{- $secrets := list }}
{{- range concat (default list (get (default dict .Values.global) "imagePullSecrets")) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with $secrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pod Security `restricted`, for every pod of this chart. */}}
{{- define "kvs-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kvs-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

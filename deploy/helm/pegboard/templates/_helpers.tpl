{{- define "pegboard.image" -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end }}

{{/* Labels of a component: (dict "root" $ "component" "hub") */}}
{{- define "pegboard.labels" -}}
app.kubernetes.io/name: pegboard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pegboard.named" -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{/* Who a component is: (dict "root" $ "component" "hub") */}}
{{- define "pegboard.id" -}}
spiffe://{{ .root.Values.spiffe.trustDomain }}/ns/{{ .root.Release.Namespace }}/sa/{{ include "pegboard.named" . }}
{{- end }}

{{- define "pegboard.pod" -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65530
  runAsGroup: 65530
  fsGroup: 65530
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecret }}
imagePullSecrets:
  - name: {{ . }}
{{- end }}
{{- with .root.Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "pegboard.confined" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pegboard.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "pegboard.labels" . | nindent 6 }}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "pegboard.labels" . | nindent 6 }}
{{- end }}

{{/* The volume with the Workload API's socket. */}}
{{- define "pegboard.identity" -}}
name: identity
csi:
  driver: {{ .Values.spiffe.csiDriver }}
  readOnly: true
{{- end }}

{{- define "pegboard.api" -}}unix:///spiffe-workload-api/spire-agent.sock{{- end }}

{{/* Egress to names. */}}
{{- define "pegboard.dns" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Values.dns.namespace }}}
      podSelector:
        matchLabels:
          {{- toYaml .Values.dns.labels | nindent 10 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* The agent of a pod: (dict "root" $ "args" list), with "socket" and "port" where others come in, and "servers" where
     pods of servers do. */}}
{{- define "pegboard.agent" -}}
image: {{ include "pegboard.image" .root }}
restartPolicy: Always
command: [python, -I, -u, -m, pegboard_hub.runtime.kubernetes.agent]
args:
  - --own=/agent
  - --workload-api={{ include "pegboard.api" .root }}
  - --trust-domain={{ .root.Values.spiffe.trustDomain }}
  - --probe-port=8081
  - --no-http
  {{- if .socket }}
  - --socket={{ .socket }}
  - --mtls-port={{ .port }}
  {{- end }}
  {{- if .servers }}
  - --below=spiffe://{{ .root.Values.spiffe.trustDomain }}/ns/{{ .root.Values.runtime.namespace }}/sa/
  {{- end }}
  {{- range .args }}
  - {{ . }}
  {{- end }}
{{- if .socket }}
ports:
  - {name: pods, containerPort: {{ .port }}, protocol: TCP}
{{- end }}
startupProbe:
  httpGet: {path: /agentz, port: 8081}
  periodSeconds: 1
  failureThreshold: 60
resources:
  requests: {cpu: 50m, memory: 128Mi, ephemeral-storage: 16Mi}
  limits: {cpu: "1", memory: 256Mi, ephemeral-storage: 128Mi}
securityContext:
  {{- include "pegboard.confined" .root | nindent 2 }}
{{- end }}

{{/* What the runtime is told of the cluster. */}}
{{- define "pegboard.cluster" -}}
{{- $of := dict "root" . "component" "runtime" }}
{{- $hub := dict "root" . "component" "hub" }}
runtime = {{ .Values.runtime.name | quote }}
namespace = {{ .Values.runtime.namespace | quote }}
image = {{ include "pegboard.image" . | quote }}
public_url = {{ .Values.publicUrl | quote }}
trust_domain = {{ .Values.spiffe.trustDomain | quote }}
spiffe_csi = {{ .Values.spiffe.csiDriver | quote }}
edge_ids = [{{ include "pegboard.id" (dict "root" . "component" "edge") | quote }}, {{ include "pegboard.id" $hub | quote }}]
scale_on = {{ .Values.runtime.scaleOn | quote }}
image_registries = {{ .Values.runtime.imageRegistries | toJson }}
pull_secret = {{ .Values.image.pullSecret | quote }}
most_memory_mb = {{ .Values.runtime.most.memoryMb | int }}
most_cpu_millis = {{ .Values.runtime.most.cpuMillis | int }}
most_disk_mb = {{ .Values.runtime.most.diskMb | int }}
most_replicas = {{ .Values.runtime.most.replicas | int }}

[[edges]]
namespace = {{ .Release.Namespace | quote }}
labels = { "app.kubernetes.io/instance" = {{ .Release.Name | quote }}, "app.kubernetes.io/component" = "edge" }

[[edges]]
namespace = {{ .Release.Namespace | quote }}
labels = { "app.kubernetes.io/instance" = {{ .Release.Name | quote }}, "app.kubernetes.io/component" = "hub" }

[hub]
host = "{{ include "pegboard.named" $hub }}.{{ .Release.Namespace }}.svc"
port = 8445
spiffe_id = {{ include "pegboard.id" $hub | quote }}

[hub_pods]
namespace = {{ .Release.Namespace | quote }}
labels = { "app.kubernetes.io/instance" = {{ .Release.Name | quote }}, "app.kubernetes.io/component" = "hub" }

[releases]
host = "{{ include "pegboard.named" $of }}.{{ .Release.Namespace }}.svc"
port = 8446
spiffe_id = {{ include "pegboard.id" $of | quote }}

[runtime_pods]
namespace = {{ .Release.Namespace | quote }}
labels = { "app.kubernetes.io/instance" = {{ .Release.Name | quote }}, "app.kubernetes.io/component" = "runtime" }

[dns]
namespace = {{ .Values.dns.namespace | quote }}

[dns.labels]
{{- range $key, $value := .Values.dns.labels }}
{{ $key | quote }} = {{ $value | quote }}
{{- end }}

[egress]
{{- range $place, $networks := .Values.runtime.egress }}
{{ $place | quote }} = {{ $networks | toJson }}
{{- end }}
{{- end }}

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

{{/* The agent in front of a socket: (dict "root" $ "socket" … "port" … "own" … "args" list) */}}
{{- define "pegboard.agent" -}}
image: {{ include "pegboard.image" .root }}
restartPolicy: Always
command: [python, -I, -u, -m, pegboard_hub.runtime.kubernetes.agent]
args:
  - --own=/agent
  - --socket={{ .socket }}
  - --workload-api={{ include "pegboard.api" .root }}
  - --trust-domain={{ .root.Values.spiffe.trustDomain }}
  - --mtls-port={{ .port }}
  - --probe-port=8081
  - --no-http
  - --below=spiffe://{{ .root.Values.spiffe.trustDomain }}/ns/{{ .root.Values.runtime.namespace }}/sa/
  {{- range .args }}
  - {{ . }}
  {{- end }}
ports:
  - {name: pods, containerPort: {{ .port }}, protocol: TCP}
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

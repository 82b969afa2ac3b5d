{{- define "stickyroute.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Prefix of every object: at most 40 characters, so that suffixes fit into 63. */}}
{{- define "stickyroute.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "stickyroute.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Cluster-wide objects carry the namespace too, so that two releases of one name do not meet. */}}
{{- define "stickyroute.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "stickyroute.fullname" .) }}
{{- end }}

{{- define "stickyroute.selectorLabels" -}}
app.kubernetes.io/name: {{ include "stickyroute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stickyroute.labels" -}}
{{ include "stickyroute.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: stickyroute
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stickyroute.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{- define "stickyroute.operator.serviceAccount" -}}
{{- if .Values.operator.serviceAccount.create }}
{{- default (printf "%s-operator" (include "stickyroute.fullname" .)) .Values.operator.serviceAccount.name }}
{{- else }}
{{- required "operator.serviceAccount.name: name an existing ServiceAccount, or set operator.serviceAccount.create=true" .Values.operator.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "stickyroute.proxy.serviceAccount" -}}
{{- if .Values.proxy.serviceAccount.create }}
{{- default (printf "%s-proxy" (include "stickyroute.fullname" .)) .Values.proxy.serviceAccount.name }}
{{- else }}
{{- required "proxy.serviceAccount.name: name an existing ServiceAccount, or set proxy.serviceAccount.create=true" .Values.proxy.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Time from the pod's deletion to its kill: at least all the phases of a shutdown. */}}
{{- define "stickyroute.proxy.terminationGracePeriodSeconds" -}}
{{- $need := add .Values.proxy.preStopSleep .Values.proxy.drainDelay .Values.proxy.grace }}
{{- $period := .Values.proxy.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $period }}
{{- add $need 5 }}
{{- else if lt (int64 $period) (int64 $need) }}
{{- fail (printf "proxy.terminationGracePeriodSeconds: %d is shorter than preStopSleep + drainDelay + grace = %d; requests in flight would be cut" (int64 $period) $need) }}
{{- else }}
{{- int64 $period }}
{{- end }}
{{- end }}

{{/* Refuses an IPv4 network with bits beside its prefix, which an operator that starts would refuse: [index, network]. */}}
{{- define "stickyroute.checkedNetwork" -}}
{{- $network := index . 1 }}
{{- $prefix := regexFind "[0-9]+$" $network | int }}
{{- $address := 0 }}
{{- range splitList "." (dir $network) }}
{{- $address = add (mul $address 256) (int64 .) }}
{{- end }}
{{- $size := 1 }}
{{- range until (sub 32 $prefix | int) }}
{{- $size = mul $size 2 }}
{{- end }}
{{- $first := sub $address (mod $address $size) }}
{{- if ne $first $address }}
{{- $bytes := list (div $first 16777216) (mod (div $first 65536) 256) (mod (div $first 256) 256) (mod $first 256) }}
{{- fail (printf "trustedProxies[%d]: %s has bits beside its prefix: write %s/%d, or an address without a prefix" (index . 0) $network (join "." $bytes) $prefix) }}
{{- end }}
{{- end }}

{{/* The settings file of the operator. */}}
{{- define "stickyroute.settings" -}}
{{- if and .Values.proxy.settings.proxyProtocol (not .Values.trustedProxies) }}
{{- fail "proxy.settings.proxyProtocol: no address is trusted, so no PROXY header is read; list the load balancer's in trustedProxies" }}
{{- end }}
{{- range $index, $network := .Values.trustedProxies }}
{{- if and (contains "/" $network) (not (contains ":" $network)) }}
{{- include "stickyroute.checkedNetwork" (list $index $network) }}
{{- end }}
{{- end }}
{{- with .Values.store }}
{{- if and (not .address) .existingSecret }}
{{- fail "store.existingSecret: there is no store; give store.address, or remove existingSecret" }}
{{- end }}
{{- if and .tls.caKey (not .existingSecret) }}
{{- fail "store.tls.caKey: names a field of a Secret, and store.existingSecret names none" }}
{{- end }}
{{- end }}
{{- $tls := pick .Values.store.tls "enabled" "serverName" }}
{{- $store := merge (dict "tls" $tls) (pick .Values.store "address" "database" "username") }}
{{- merge (dict "trustedProxies" .Values.trustedProxies "store" $store) .Values.proxy.settings | toJson }}
{{- end }}

{{- define "stickyroute.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stickyroute.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "stickyroute.demo.spec" }}
spec:
  className: {{ .Values.className }}
  hosts: [{{ .Values.demo.host | quote }}]
  rules:
  - name: app
    backends: [{service: {{ include "stickyroute.fullname" . }}-demo, port: http}]
  persistence: {type: Cookie, idleTimeout: 30m}
{{- end }}

{{- define "stickyroute.demo.labels" }}
    {{- include "stickyroute.labels" . | nindent 4 }}
    app.kubernetes.io/component: demo
{{- end }}

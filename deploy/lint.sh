#!/usr/bin/env bash
# Lints the chart and renders it with each file of its ci/ folder, and holds that bad values are refused by name.
# Where Helm is not installed, says so and leaves it to a machine that has it.
set -euo pipefail
cd "$(dirname "$0")/helm/stickyroute"

command -v helm >/dev/null || { echo "chart: helm is not installed here, so the chart is not rendered"; exit 0; }

helm lint --strict --quiet .
for values in ci/*.yaml; do
  helm lint --strict --quiet -f "$values" .
  helm template probe . --namespace probe -f "$values" >/dev/null
done

refused() {  # refused WHAT-THE-MESSAGE-NAMES --set …
  local name=$1 answer
  shift
  if answer=$(helm template probe . --namespace probe "$@" 2>&1 >/dev/null); then
    echo "chart: $* was taken; it must be refused" >&2
    return 1
  fi
  grep -qF -- "$name" <<<"$answer" || { echo "chart: $* is refused without naming $name: $answer" >&2; return 1; }
}
refused /operator/replicas --set operator.replicas=2
refused /operator/rotateKeysEvery --set operator.rotateKeysEvery=30d
refused proxi --set proxi.replicas=2
refused /proxy/service/type --set proxy.service.type=Nodeport
refused /proxy/drainDelay --set proxy.drainDelay=5s
refused /image/pullPolicy --set image.pullPolicy=never
refused /proxy/settings/limits/headBytes --set proxy.settings.limits.headBytes=32KB
refused /proxy/settings/limits/headBytes --set proxy.settings.limits.headBytes=1
refused /proxy/settings/timeouts/head --set proxy.settings.timeouts.head=15
refused /proxy/settings/accessLog/mode --set proxy.settings.accessLog.mode=On
refused headbytes --set proxy.settings.limits.headbytes=32Ki
refused /proxy/workers --set proxy.workers=0
refused proxy.settings.proxyProtocol --set proxy.settings.proxyProtocol=true
refused "trustedProxies[1]: 10.1.2.3/12 has bits beside its prefix: write 10.0.0.0/12" \
  --set 'trustedProxies={10.0.0.0/8,10.1.2.3/12}'
refused "trustedProxies[0]: 192.0.2.129/25 has bits beside its prefix: write 192.0.2.128/25" \
  --set 'trustedProxies={192.0.2.129/25}'
refused proxy.terminationGracePeriodSeconds --set proxy.terminationGracePeriodSeconds=20
refused /store/address --set store.address=valkey
refused store.existingSecret --set store.existingSecret=valkey
refused store.tls.caKey --set store.address=valkey:6379 --set store.tls.caKey=ca.crt
refused proxy.serviceAccount.name --set proxy.serviceAccount.create=false

# No right beyond what is used: no wildcard, and Secrets are neither listed nor watched.
everything=$(helm template probe . --namespace probe)
if grep -nE '(resources|verbs|apiGroups): *\[ *"?\*' <<<"$everything"; then
  echo "chart: a role has a wildcard" >&2
  exit 1
fi
if grep -A4 'resources: *\[.*secrets' <<<"$everything" | grep -E 'verbs:.*(list|watch|create|update|delete)'; then
  echo "chart: a role may do more with Secrets than get and patch them by name" >&2
  exit 1
fi
echo "chart: ok"

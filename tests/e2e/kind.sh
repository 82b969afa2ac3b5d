#!/usr/bin/env bash
# The end-to-end tests on the cluster that KUBECONFIG names; without one, on a kind cluster made for them (Docker).
#
#   kind.sh                                 run the tests; more arguments go to pytest
#   kind.sh stop kube-apiserver [--kill]    how the fault tests reach kind's API server
#   kind.sh start kube-apiserver
#
# On a cluster of yours, say where the image is (STICKYROUTE_IMAGE_REPOSITORY, _TAG, _PULL_POLICY), where its node ports
# answer (STICKYROUTE_NODE_ADDRESS, _NODE_PORT, _NODE_TLS_PORT) and what stops and starts its API server (STICKYROUTE_CLUSTER).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
NAME=stickyroute-e2e
NODE=$NAME-control-plane
PYTHON=${PYTHON:-python3}

case "${1:-}" in
stop)
  # the kubelet would start it again at once: its manifest goes away first
  docker exec "$NODE" sh -c 'mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/ && pkill -KILL -x kube-apiserver'
  exit
  ;;
start)
  docker exec "$NODE" mv /etc/kubernetes/kube-apiserver.yaml /etc/kubernetes/manifests/
  exit
  ;;
esac

cd "$here/../.."
for tool in kubectl helm; do
  command -v "$tool" >/dev/null || { echo "make e2e needs $tool on the PATH" >&2; exit 2; }
done

if [[ -z ${KUBECONFIG:-} ]]; then
  for tool in docker kind; do
    command -v "$tool" >/dev/null || { echo "make e2e: set KUBECONFIG to a cluster, or install $tool" >&2; exit 2; }
  done
  work=$(mktemp -d)
  trap 'kind delete cluster --name "$NAME"; rm -rf "$work"' EXIT
  export KUBECONFIG=$work/kubeconfig STICKYROUTE_CLUSTER=$here/kind.sh
  export STICKYROUTE_IMAGE_REPOSITORY=localhost/stickyroute STICKYROUTE_IMAGE_TAG=e2e
  kind create cluster --name "$NAME" --config - <<'KIND'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  extraPortMappings:
  - {containerPort: 30080, hostPort: 30080, listenAddress: 127.0.0.1}
  - {containerPort: 30443, hostPort: 30443, listenAddress: 127.0.0.1}
KIND
  docker build -t "$STICKYROUTE_IMAGE_REPOSITORY:$STICKYROUTE_IMAGE_TAG" .
  kind load docker-image --name "$NAME" "$STICKYROUTE_IMAGE_REPOSITORY:$STICKYROUTE_IMAGE_TAG"
fi
"$PYTHON" -m pytest tests/e2e -v -s "$@"

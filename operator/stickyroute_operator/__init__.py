"""The operator: Kubernetes state in, snapshots and status out."""

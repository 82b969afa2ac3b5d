"""Whether endpoints are well, beyond their readiness in Kubernetes: what checks and clients' requests tell."""

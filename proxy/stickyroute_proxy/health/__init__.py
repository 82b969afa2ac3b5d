"""Whether endpoints are well beyond their readiness in Kubernetes, as checks and clients' requests tell."""

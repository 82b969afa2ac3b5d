"""HTTP/1.1 on sockets: parse, rewrite, stream. Knows nothing of how endpoints are chosen."""

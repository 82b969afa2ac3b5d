"""What a proxy routes by: the snapshot compiled into dictionaries, and the endpoints' running state."""

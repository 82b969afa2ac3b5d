"""Names of fields, as those read them who take `_` for `-`."""


def plain(name: bytes) -> bytes:
    """A field's name as applications may read it: the same for all its spellings."""
    return name.lower().replace(b"_", b"-")

"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed version; `unknown` when run from a folder that was not installed."""
    try:
        return version("stickyroute")
    except PackageNotFoundError:
        return "unknown"

"""What is told of a proxy that does not answer."""

import errno
import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from stickyroute_operator.complaint import words


def unreachable(cause):
    key = SimpleNamespace(host="10.0.0.7", port=9443, ssl=ssl.create_default_context(), is_ssl=True)
    return aiohttp.ClientConnectorError(key, cause)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            unreachable(OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.7', 9443)")),
            "no connection to 10.0.0.7 port 9443: Connection refused",
        ),
        (
            unreachable(OSError("Multiple exceptions: …")),
            "no connection to 10.0.0.7 port 9443: Multiple exceptions: …",
        ),
        (
            unreachable(ssl.SSLError(1, "[SSL] certificate verify failed")),
            "no connection to 10.0.0.7 port 9443: [SSL] certificate verify failed",
        ),
        (TimeoutError(), "no answer in time"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_in_words(error, told):
    assert words(error) == told

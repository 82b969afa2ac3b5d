"""TLS for the harness: throw-away authorities and certificates, and clients that speak it."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from functools import cache

import trustme
from tests.component.wire.harness import Raw, serving

from stickyroute_api.snapshot import Certificate, RouteTls


@cache
def authority():
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def certificate(*names, issuer=None, **fields):
    """As a Secret holds it."""
    found = (issuer or authority()).issue_cert(*names, key_type=trustme.KeyType.ECDSA, **fields)
    return Certificate(
        chain="".join(pem.bytes().decode() for pem in found.cert_chain_pems),
        key=found.private_key_pem.bytes().decode(),
    )


def trusting(*, alpn=("http/1.1",), issuer=None):
    """A client's context."""
    context = ssl.create_default_context()
    (issuer or authority()).configure_trust(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def secured(given, certificates, routes=None):
    """A snapshot whose route serves its hosts over TLS.

    `certificates` by the name of their Secret; `routes`: hosts by the Secret, one route for each.
    """
    (route,) = given.routes.values()
    routes = routes or dict.fromkeys(certificates, ())
    made = [
        route.model_copy(
            update={"name": f"route-{i}", "hosts": hosts, "tls": RouteTls(certificate=f"shop/{name}")}
        )
        for i, (name, hosts) in enumerate(routes.items())
    ]
    return given.model_copy(
        update={
            "routes": {one.key: one for one in made},
            "certificates": {f"shop/{name}": one for name, one in certificates.items()},
        }
    )


async def connect(port, name="shop.example.com", context=None):
    """A client's connection by TLS; no `name`: it names nobody and checks nothing."""
    context = context or trusting()
    if name is None:
        context.check_hostname = False
    return Raw(
        *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "127.0.0.1")
    )


@asynccontextmanager
async def serving_tls(*scripts, certificates=None, routes=None, **options):
    """`serving`, and a port for TLS as `proxy.https`."""
    certificates = certificates or {"tls": certificate("shop.example.com")}
    async with serving(*scripts, **options) as (proxy, *backends):
        given = proxy.plane.table.snapshot
        proxy.apply(secured(given, certificates, routes).model_copy(update={"revision": 2}))
        server = await proxy.plane.listen("127.0.0.1", 0, tls=True)
        proxy.https = server.sockets[0].getsockname()[1]
        yield proxy, *backends


class HalfClosing:
    """A client that may end its half, as asyncio's TLS cannot, and sees whether the other half was ended."""

    def __init__(self, reader, writer, context, session):
        self.reader, self.writer = reader, writer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="shop.example.com", session=session
        )
        self.buffer = b""
        self.clean = False
        """The other half ended with close_notify."""

    async def shake_hands(self, size):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._trickle(size)
                self.incoming.write(await self.reader.read(65536))
            else:
                await self._trickle(size)
                return

    async def _trickle(self, size):
        data = self.outgoing.read()
        for start in range(0, len(data), size):
            self.writer.write(data[start : start + size])
            await asyncio.sleep(0)

    def write(self, data):
        self.tls.write(data)
        self.writer.write(self.outgoing.read())

    def write_eof(self):
        """close_notify, and nothing more."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.writer.write(self.outgoing.read())

    async def read(self):
        while await self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    async def readuntil(self, mark):
        while mark not in self.buffer:
            assert await self._more(), self.buffer
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    async def readexactly(self, size):
        while len(self.buffer) < size:
            assert await self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    async def _more(self):
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                async with asyncio.timeout(10):
                    data = await self.reader.read(65536)
                if not data:
                    return False
                self.incoming.write(data)
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            self.clean = not data
            self.buffer += data
            return bool(data)

    async def close(self):
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def half_closing(port, size=65536, context=None, session=None):
    """`size`: of its writes during the handshake."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    client = HalfClosing(*streams, context or trusting(), session)
    await client.shake_hands(size)
    return client

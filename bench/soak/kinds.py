"""The kinds of clients: each function is one client's one visit, which it repeats until the soak ends.

A visit raises WrongError where anything but the right thing came.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from bench import site
from bench.soak import fleet, ids
from bench.soak.client import PATIENCE, Client, Connection, check, request, session
from bench.soak.messages import UntimelyError, WrongError, accept_key, frame, take_answer

LARGE: Final = 1 << 20
HUGE: Final = 16 << 20
"""More than the kernel's buffers take on the way."""
SLACK: Final = 3.0
"""Seconds by which a slow client may be closed later than its time: ticks, and a loaded machine."""
STALL: Final = 30.0
"""Seconds that a client which takes nothing has, once its exchange has been cut."""
THOUGHT: Final = 0.08
"""Mean seconds between two requests of a session."""
SIZES: Final = (0, 16, 200, 1024, 1024, 5000, 20_000)

_GOING: Final = b"\x88\x02\x03\xe9"
"""A close frame of code 1001: the endpoint is going away."""

_HOST: Final = f"Host: {fleet.HOST}"
MALFORMED: Final = tuple(
    "\r\n".join([*lines, ""]).encode()
    for lines in (
        ("GET /malformed HTTP/1.1", ""),
        ("GET /malformed HTTP/1.1", "Host: a", "Host: b", ""),
        ("GET /malformed HTTP/1.1", f"Host : {fleet.HOST}", ""),
        ("GET /malformed HTTP/1.1", _HOST, " folded: yes", ""),
        ("GET  /malformed  HTTP/1.1", _HOST, ""),
        ("GET /malformed HTTP/7.7", _HOST, ""),
        ("GET /malformed HTTP/1.1", _HOST, "X: a\0b", ""),
        ("GET /malformed HTTP/1.1", _HOST, f"X: {'x' * 40_000}", ""),
        (f"GET /malformed{'x' * 20_000} HTTP/1.1", _HOST, ""),
        ("POST /malformed HTTP/1.1", _HOST, "Content-Length: 1", "Content-Length: 2", "", "ab"),
        ("POST /malformed HTTP/1.1", _HOST, "Content-Length: -1", ""),
        ("POST /malformed HTTP/1.1", _HOST, "Content-Length: 3", "Transfer-Encoding: chunked", "", "0", ""),
        ("POST /malformed HTTP/1.1", _HOST, "Transfer-Encoding: xchunked", "", "0", ""),
        ("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03malformed", ""),
    )
)


async def kept(client: Client) -> None:
    """A session on a connection that is kept alive."""
    connection = await Connection.open(client.aim)
    try:
        await _session(client, connection, client.random.randint(50, 500))
    finally:
        connection.close()


async def tls(client: Client) -> None:
    """The same over TLS, for fewer requests."""
    connection = await Connection.open(client.aim, tls=True)
    try:
        await _session(client, connection, client.random.randint(1, 20))
    finally:
        connection.close()


async def _session(client: Client, connection: Connection, count: int) -> None:
    random = client.random
    for _ in range(count):
        name, size = client.name(), random.choice(SIZES)
        kind = "chunked" if random.random() < 0.1 else "size"
        answer = await connection.ask(request(f"/{kind}/{size}", name, cookie=client.cookie))
        check(answer, name, size)
        client.cookie = session(answer, client.cookie)
        client.good()
        if answer.closes or client.stop.is_set():
            return
        await asyncio.sleep(THOUGHT * 2 * random.random())


async def fresh(client: Client) -> None:
    """A connection of its own, a session of its own, one request, and the end that the proxy makes."""
    connection = await Connection.open(client.aim)
    try:
        name = client.name()
        check(await connection.ask(request("/size/1024", name, "Connection: close")), name, 1024)
        await connection.closed()
        client.good()
    finally:
        connection.close()


async def pipelined(client: Client) -> None:
    """Several requests at once; the answers in their order."""
    connection = await Connection.open(client.aim)
    try:
        names = [client.name() for _ in range(client.random.randint(2, 12))]
        connection.writer.write(b"".join(request("/size/300", name) for name in names))
        for name in names:
            check(await connection.answer(), name, 300)
            client.good()
    finally:
        connection.close()


async def bulk(client: Client) -> None:
    """A large body down, up, or both ways."""
    connection = await Connection.open(client.aim)
    try:
        for target in client.random.sample(("down", "up", "both"), 3):
            name = client.name()
            if target == "down":
                answer = await connection.ask(request(f"/size/{LARGE}", name, cookie=client.cookie))
            else:
                message = request(
                    f"/{target}", name, f"Content-Length: {LARGE}", method="POST", cookie=client.cookie
                )
                answer = await connection.ask(message + ids.repeated(name, LARGE))
            check(answer, name, ids.SIZE if target == "up" else LARGE)
            client.cookie = session(answer, client.cookie)
            client.good()
            if answer.closes:
                return
    finally:
        connection.close()


async def websocket(client: Client) -> None:
    """A WebSocket whose messages come back, until its pod is drained."""
    began = monotonic()
    connection = await Connection.open(client.aim)
    try:
        name, key = client.name(), b"dGhlIHNhbXBsZSBub25jZQ=="
        fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        answer = await connection.ask(
            request("/socket", name, *fields, f"Sec-WebSocket-Key: {key.decode()}", cookie=client.cookie)
        )
        if answer.status != 101 or answer.fields.get(b"sec-websocket-accept") != accept_key(key):
            raise WrongError(f"no WebSocket but {answer.status}")
        for _ in range(client.random.randint(1, 200)):
            payload = ids.repeated(client.name(), client.random.choice((130, 1024, 8000)))
            connection.writer.write(frame(payload))
            awaited = b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload
            while len(connection.buffer) < len(awaited) and connection.buffer != _GOING:
                await connection.more()
            if connection.buffer in (_GOING, awaited + _GOING) and monotonic() > began + fleet.DRAIN:
                client.good()  # its pod's drain is over
                return
            if connection.buffer != awaited:
                raise WrongError("another message came back than was sent")
            connection.buffer.clear()
            client.good()
            if client.stop.is_set():
                return
            await asyncio.sleep(0.01)
    finally:
        connection.close(reset=client.random.random() < 0.3)


async def aborting(client: Client) -> None:
    """Goes away without a word: in its head, its body, or the answer."""
    connection = await Connection.open(client.aim, tls=client.random.random() < 0.2)
    try:
        name = client.name()
        how = client.random.choice(("head", "body", "answer", "at once"))
        if how == "head":
            connection.writer.write(request("/size/1024", name)[: client.random.randint(0, 200)])
        elif how == "body":
            head = request("/up", name, f"Content-Length: {LARGE}", method="POST")
            connection.writer.write(head + ids.repeated(name, client.random.randint(0, LARGE - 1)))
        else:
            connection.writer.write(request(f"/size/{LARGE}", name))
        if how == "answer":
            await connection.reader.read(client.random.randint(1, 100_000))
        else:
            await asyncio.sleep(client.random.random() * 0.05)
        client.good()
    finally:
        connection.close(reset=client.random.random() < 0.7)


async def malformed(client: Client) -> None:
    """Sends what is no request: one refusal, and the end."""
    connection = await Connection.open(client.aim)
    try:
        message = client.random.choice(MALFORMED)
        answer = await connection.ask(message)
        if not (400 <= answer.status < 500 or answer.status in (501, 505)) or ids.FIELD in answer.fields:
            raise WrongError(f"status {answer.status} to {message[:60]!r}")
        await connection.closed()
        client.good()
    finally:
        connection.close()


async def slow_reader(client: Client) -> None:
    """Takes a large answer in small parts, and gets all of it."""
    sock = await _narrow(client)
    try:
        loop, name = asyncio.get_running_loop(), client.name()
        await loop.sock_sendall(sock, request(f"/size/{LARGE}", name, "Connection: close"))
        got = bytearray()
        while part := await loop.sock_recv(sock, 32 * 1024):
            got += part
            await asyncio.sleep(0.02)
        answer = take_answer(got)
        if answer is None:
            raise WrongError(f"closed {len(got)} bytes into an answer")
        check(answer, name, LARGE)
        if got:
            raise WrongError("bytes behind the last answer")
        client.good()
    finally:
        sock.close()


async def head_trickle(client: Client) -> None:
    """Never comes to its head's end: 408 in its time."""
    await _trickle(client, request("/size/10", client.name()), b"X-More: yes\r\n", fleet.HEAD)


async def body_trickle(client: Client) -> None:
    """Never comes to its body's end: 408 when the whole request's time is over."""
    head = request("/up", client.name(), "Content-Length: 100000", method="POST")
    await _trickle(client, head + b"\r\n", b"x", fleet.REQUEST)


async def body_stop(client: Client) -> None:
    """Sends half its body and no more: 408 in its time."""
    name = client.name()
    head = request("/up", name, "Content-Length: 100000", method="POST")
    await _trickle(client, head + ids.repeated(name, 50_000) + b"..", b"", fleet.BODY_IDLE)


async def _trickle(client: Client, first: bytes, more: bytes, seconds: float) -> None:
    """Send all but the last two bytes, then a little now and then; 408 has to come in so many seconds."""
    opened = monotonic()
    connection = await Connection.open(client.aim)
    answer = asyncio.ensure_future(connection.answer())
    try:
        connection.writer.write(first[:-2])
        began = monotonic()
        while not (await asyncio.wait([answer], timeout=0.3))[0]:
            if monotonic() > began + seconds + SLACK:
                raise UntimelyError(
                    f"not closed after {monotonic() - began:.1f} s; {seconds:g} s are its time"
                )
            connection.writer.write(more)
        status = answer.result().status
        if status != 408:
            raise WrongError(f"status {status} and not 408")
        if (took := monotonic() - opened) < seconds:
            raise UntimelyError(f"closed after {took:.1f} s; {seconds:g} s are its time")
        await connection.closed()
        client.good()
    finally:
        answer.cancel()
        connection.close()


async def never_reading(client: Client) -> None:
    """Takes nothing of an answer: cut in its time, and what it then reads is not all of it."""
    sock = await _narrow(client)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, request(f"/size/{HUGE}", client.name()))
        await asyncio.sleep(fleet.REQUEST + STALL + SLACK)
        size = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while part := await loop.sock_recv(sock, 1 << 18):
                    size += len(part)
        except ConnectionError:
            pass
        except TimeoutError:
            raise UntimelyError("not closed") from None
        if size >= HUGE:
            raise WrongError("all was kept for it")
        client.good()
    finally:
        sock.close()


async def _narrow(client: Client) -> socket.socket:
    """A connection that has room for little."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    await asyncio.get_running_loop().sock_connect(sock, (site.ADDRESS, client.aim.port))
    return sock


Visit = Callable[[Client], Awaitable[None]]
KINDS: Final[dict[str, tuple[Visit, int, float]]] = {
    "kept alive": (kept, 40, 0.0),
    "new connections": (fresh, 8, 0.01),
    "TLS": (tls, 4, 0.05),
    "pipelined": (pipelined, 4, 0.02),
    "1 MiB bodies": (bulk, 4, 0.05),
    "WebSockets": (websocket, 8, 0.05),
    "going away": (aborting, 6, 0.02),
    "malformed": (malformed, 4, 0.02),
    "slow readers": (slow_reader, 6, 0.1),
    "trickled heads": (head_trickle, 10, 0.1),
    "trickled bodies": (body_trickle, 10, 0.1),
    "bodies that stop": (body_stop, 6, 0.1),
    "never reading": (never_reading, 10, 0.1),
}
"""By name: the visit, how many such clients there are, and their mean pause between visits in seconds."""
SLOW: Final = ("trickled heads", "trickled bodies", "never reading")
"""What only takes room: ended when a soak ends, not awaited."""


async def run(visit: Visit, client: Client, pause: float) -> None:
    """Visit after visit until the soak ends."""
    while not client.stop.is_set():
        began = monotonic()
        try:
            await visit(client)
        except UntimelyError as error:
            if client.pulse.missed(began):
                client.tally.unjudged[client.kind] += 1
            else:
                client.tally.fault(client.kind, str(error))
        except (WrongError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            if client.kind != "going away":
                client.tally.fault(client.kind, f"{error or type(error).__name__}")
        await asyncio.sleep(pause * 2 * client.random.random())

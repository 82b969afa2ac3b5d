"""Clients that hold WebSockets: they say one thing, are silent for long, leave, and come back."""

import asyncio
import struct
import time

from tests.invariants.session import Session, digest

TEXT, CLOSE = 1, 8
NORMAL, GOING_AWAY = 1000, 1001
HOLDS = (1.0, 10.5)
"""Seconds that chats last at most: longer than a drain and all after it, within what an ending proxy lets."""
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Chatter(Session):
    async def run(self, _count, start, seconds):
        self.end = start + seconds
        await asyncio.sleep(self.random.random() * 0.3 * seconds)
        while time.monotonic() < self.end:
            await self.ask()
            await asyncio.sleep(0.2 + self.random.random())

    def begin(self, proxy):
        return super().begin(proxy) | {"method": "CHAT"}

    async def exchange(self, proxy, _message, told):
        """A chat, from its opening to its end."""
        reader, writer = await asyncio.open_connection(self.proxies.host, self.proxies.ports[proxy])
        try:
            async with asyncio.timeout(max(HOLDS) + 20):
                return await self._talk(reader, writer, told)
        finally:
            writer.close()

    async def _talk(self, reader, writer, told):
        lines = [
            "GET /chat HTTP/1.1",
            *self.fields(told),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in rest)]
        status = int(line.split(" ")[1])
        found = {"status": status, "set": self.keep(fields)}
        if status != 101:
            content = await reader.readexactly(int(dict(fields)["content-length"]))
            return found | {"error": content.decode("utf-8", "replace")[:200]}
        said = f"{told['id']} of {digest(self.name)}"
        hold = self.random.choice(HOLDS) * self.random.uniform(0.8, 1.0)
        hold = min(hold, max(0.5, self.end - time.monotonic()))
        try:
            _send(writer, TEXT, said.encode())
            found["uid"], _, heard = (await _receive(reader))[1].decode().partition(" ")
            if heard != said:
                found["wrong"] = f"the chat's answer is {heard!r}"
            found["close"] = await _end(reader, writer, hold)
        except (OSError, EOFError) as error:
            found |= {"close": 0, "error": f"{type(error).__name__}: {error}"}
        return found


async def _end(reader, writer, hold):
    """The code that the chat ends with: that of the other side, or ours after so many seconds."""
    try:
        async with asyncio.timeout(hold):
            _, content = await _receive(reader)
        code = struct.unpack("!H", content[:2])[0]
        _send(writer, CLOSE, content[:2])
    except TimeoutError:
        code = NORMAL
        _send(writer, CLOSE, struct.pack("!H", NORMAL))
        await _receive(reader)
    return code


def _send(writer, opcode, content):
    """A frame, masked by nothing (RFC 6455, section 5.2)."""
    writer.write(struct.pack("!BBI", 0x80 | opcode, 0x80 | len(content), 0) + content)


async def _receive(reader):
    first, length = struct.unpack("!BB", await reader.readexactly(2))
    return first & 15, await reader.readexactly(length)

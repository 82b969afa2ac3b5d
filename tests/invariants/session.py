"""One client: it keeps the key of its session as its route wants it, and asks by its own random turns."""

import asyncio
import itertools
import json
import time
from hashlib import blake2b
from random import Random

from tests.invariants.routes import COOKIES, GIVEN, HEADERS, route_of

BURST = 4
VISIT = 8


def digest(token):
    """What is logged of a token: enough to tell it again, of no use to anybody else."""
    return blake2b(token.encode(), digest_size=6).hexdigest() if token else ""


class Session:
    """One client with its key."""

    def __init__(self, number, plan, proxies, log):
        self.number, self.proxies, self.log = number, proxies, log
        self.name = f"s{number}"
        self.route = route_of(number, plan["routes"])
        self.cookie = COOKIES.get(self.route, "sid")
        self.header = HEADERS.get(self.route, "")
        self.random = Random(f"{plan['seed']}/{number}")
        self.token = ""
        self.turns = itertools.count()
        self.parallel = self.route != "quiet" and number % 5 == 0
        self.slow = plan["slow"]
        self.lazy = number % 7 == 3
        """Asks much at a time, and then long nothing: what happens meanwhile is news to it."""

    async def run(self, count, start, seconds):
        begin = self.random.random() * 0.3 * seconds
        each = BURST if self.parallel else 1
        together = VISIT if self.lazy else 1
        rounds = max(2, -(-count // (each * together)))
        for turn in range(rounds):
            due = begin + (seconds - begin) * (turn + self.random.random() * 0.9) / rounds
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            if turn == 0:
                # A browser asks for one page before it asks for many parts.
                await self.ask()
            for _ in range(together):
                if each == 1:
                    await self.ask()
                else:
                    await asyncio.gather(*(self.ask() for _ in range(each)))

    def begin(self, proxy):
        """What is logged of a request, as far as it is known before."""
        return {
            "id": f"{self.name}-{next(self.turns)}",
            "session": self.name,
            "route": self.route,
            "proxy": proxy,
            "method": "POST" if self.random.randrange(4) == 0 else "GET",
            "token": digest(self.token),
        }

    def fields(self, told):
        """The request's, but for those of its body."""
        cookie = f"app={self.name}"
        if self.token and not self.header:
            cookie += f"; {self.cookie}={self.token}"
        lines = [
            f"Host: {self.route}.test",
            f"X-Request-Id: {told['id']}",
            f"X-Private: private-{self.name}",
            f"Cookie: {cookie}",
        ]
        if self.token and self.header:
            lines.append(f"{self.header}: {self.token}")
        return lines

    def message(self, told):
        slow = self.random.randrange(1000) < self.slow
        query = f"room={self.number}&" if self.route == "rooms" else ""
        if self.route in GIVEN:
            query += f"gives={GIVEN[self.route]}&"
        post = told["method"] == "POST"
        body = b"x" * (self.number % 2 * 50 if post else 0)
        lines = [f"{told['method']} /?{query}{'slow=400' if slow else ''} HTTP/1.1", *self.fields(told)]
        if post:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def ask(self):
        await self.proxies.some.wait()
        proxy = self.random.choice(self.proxies.names)
        told = self.begin(proxy)
        message = self.message(told)
        sent = time.time()
        try:
            found = await self.exchange(proxy, message, told)
        except (OSError, EOFError) as error:
            found = {"status": 0, "error": f"{type(error).__name__}: {error}"}
        self.log.write(**told, sent=sent, done=time.time(), **found)

    async def exchange(self, proxy, message, told):
        """What came of one request."""
        connection = await self.proxies.connection(proxy)
        status, fields, content = await connection.ask(message)
        self.proxies.put(proxy, connection)
        found = {"status": status, "set": self.keep(fields)}
        if status != 200:
            return found | {"error": content.decode("utf-8", "replace")[:200]}
        answer = json.loads(content)
        mine = (told["id"], self.name, f"private-{self.name}")
        if (answer["id"], answer["session"], answer["secret"]) != mine:
            found["wrong"] = f"the answer is that of {answer['id']} of session {answer['session']}"
        return found | {"pod": answer["pod"], "uid": answer["uid"], "instance": answer["instance"]}

    def keep(self, fields):
        """Take the key that the answer gives; its digest, `-` for one that is taken back."""
        sign, mark = (self.header, "") if self.header else ("set-cookie", f"{self.cookie}=")
        given = [
            value.removeprefix(mark) for name, value in fields if name == sign and value.startswith(mark)
        ]
        if not given:
            return ""
        value, _, attributes = given[-1].partition(";")
        self.token = "" if "max-age=0" in attributes.lower() else value
        return digest(self.token) or "-"

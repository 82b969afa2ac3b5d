"""Applications that keep sessions in memory, each on a pod of its own, and what clients see of them."""

import re
from contextlib import asynccontextmanager

from tests.component.wire.harness import Backend, Proxy, endpoint, eventually, fleet, get

from stickyroute_api import snapshot

COOKIE = b"Set-Cookie: ID=%b; Path=/; HttpOnly"
SHOWN = rb"(?im)^cookie:.*\bID=([^;\r]*)"


class App:
    """Gives a session's cookie, or header, to who shows none that it knows; says what it was shown."""

    def __init__(self, name, give=COOKIE, shown=SHOWN):
        self.name = name
        self.give = give
        self.shown = re.compile(shown)
        self.sessions = set()
        self.heads = []
        self.answer = b"HTTP/1.1 200 OK"

    async def script(self, peer):
        while True:
            head, _ = await peer.request()
            self.heads.append(head)
            await peer.send(self.reply(head))

    def reply(self, head):
        found = self.shown.search(head)
        value = found[1] if found else b""
        fields = [self.answer, b"X-Pod: " + self.name]
        if value not in self.sessions:
            value = b"%b-%d" % (self.name, len(self.sessions))
            self.sessions.add(value)
            fields.append(self.give % value)
        return b"\r\n".join(fields) + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(value), value)


@asynccontextmanager
async def fleet_of(*apps, proxies=1, clock=None, settings=None, **policy):
    """Proxies before the pods: (proxies, {pod: endpoint}, remove)."""
    backends = [await Backend(app.script).start() for app in apps]
    pods = {
        app.name: endpoint(backend.port, f"uid-{app.name.decode()}")
        for app, backend in zip(apps, backends, strict=True)
    }
    persistence = snapshot.Persistence(**policy)
    options = {} if clock is None else {"clock": clock}
    revision = 1

    def made():
        return fleet(*pods.values(), revision=revision, persistence=persistence, settings=settings)

    serving = [await Proxy(**options).start(made()) for _ in range(proxies)]

    def apply():
        nonlocal revision
        revision += 1
        for proxy in serving:
            proxy.apply(made())

    try:
        yield serving, pods, apply
    finally:
        for proxy in serving:
            await proxy.plane.drain(0, 0.2)
        for backend in backends:
            await backend.stop()
        for proxy in serving:
            await eventually(lambda: not proxy.plane.counters.upstreams)  # noqa: B023


class Clock:
    """Tells the Unix time that it is set to."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


class Browser:
    """Keeps the cookies, or the header, that it is given."""

    def __init__(self, header=None):
        self.header = header
        self.kept = {}
        self.heads = []

    async def ask(self, proxy, *lines, path="/"):
        """The pod that answered, and what it called the session."""
        if self.header is not None:
            mine = [f"{self.header}: {value}" for value in self.kept.values()]
        else:
            mine = ["Cookie: " + "; ".join(f"{key}={value}" for key, value in self.kept.items())]
        raw = await proxy.connect()
        await raw.send(get(path, *(mine if self.kept else ()), *lines))
        head, body = await raw.answer()
        await raw.close()
        self.heads.append(head)
        self._keep(head.decode("latin-1"))
        return pod_of(head), body

    def _keep(self, head):
        if self.header is not None:
            found = re.findall(rf"(?im)^{self.header}: (.*)\r$", head)
            self.kept = {"": found[-1]} if found else self.kept
            return
        for name, value, rest in re.findall(r"(?im)^set-cookie: ([^=;\r]*)=([^;\r]*)(.*)\r$", head):
            if "max-age=0" in rest.lower():
                self.kept.pop(name, None)
            else:
                self.kept[name] = value


def pod_of(head):
    found = re.search(rb"(?im)^x-pod: (.*)\r$", head)
    return found[1] if found else head.split(b"\r\n", 1)[0]

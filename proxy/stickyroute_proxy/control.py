"""The control port: where the operator pushes snapshots and reads affinity. Mutual TLS, with roles."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.control import (
    AFFINITY_PATH,
    LEASES_PATH,
    MAX_SNAPSHOT_BYTES,
    SNAPSHOT_PATH,
    VERSION_PATH,
    Held,
    Refusal,
    Role,
    role_uri,
    roles,
)
from stickyroute_api.snapshot import Snapshot, Version
from stickyroute_proxy.receive import (
    InvalidError,
    Receiver,
    RefusedError,
    StaleError,
    UnavailableError,
    WrongBaseError,
)

READABLE_BY_PROXIES = frozenset({SNAPSHOT_PATH, VERSION_PATH})
STATUS: dict[type[RefusedError], int] = {
    StaleError: 409,
    WrongBaseError: 412,
    InvalidError: 422,
    UnavailableError: 503,
}


class Control:
    """The handlers of the control port."""

    def __init__(
        self,
        receiver: Receiver,
        proxy: str,
        version: str,
        report: Callable[[], Awaitable[AffinityReport | None]],
        encode: Callable[[Snapshot], Awaitable[bytes]],
    ) -> None:
        """`proxy` is the pod's name, `version` the product's; `report` gives None while nothing is served."""
        self._receiver = receiver
        self._proxy = proxy
        self._version = version
        self._report = report
        self._encode = encode

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[guard(self._receiver.fleet), tell], client_max_size=MAX_SNAPSHOT_BYTES
        )
        app.add_routes(
            [
                web.put(SNAPSHOT_PATH, self._put),
                web.patch(SNAPSHOT_PATH, self._patch),
                web.get(SNAPSHOT_PATH, self._snapshot),
                web.get(VERSION_PATH, self._get_version),
                web.get(AFFINITY_PATH, self._affinity),
                web.put(LEASES_PATH, self._leases),
            ]
        )
        return app

    async def _put(self, request: web.Request) -> web.Response:
        return await self._take(self._receiver.put, await request.read())

    async def _patch(self, request: web.Request) -> web.Response:
        return await self._take(self._receiver.patch, await request.read())

    async def _leases(self, request: web.Request) -> web.Response:
        return await self._take(self._receiver.lend, await request.read())

    async def _take(self, take: Callable[[bytes], Awaitable[object]], body: bytes) -> web.Response:
        try:
            await take(body)
        except RefusedError as refused:
            return _refusal(STATUS[type(refused)], str(refused), self._receiver.version)
        return self._held()

    async def _get_version(self, _request: web.Request) -> web.Response:
        return self._held()

    async def _snapshot(self, _request: web.Request) -> web.Response:
        if (snapshot := self._receiver.snapshot) is None:
            return _refusal(404, "this proxy holds no snapshot yet")
        return _json(await self._encode(snapshot))

    async def _affinity(self, _request: web.Request) -> web.Response:
        if (report := await self._report()) is None:
            return _refusal(404, "this proxy holds no snapshot yet, so it knows no sessions")
        return _json(report.model_dump_json().encode())

    def _held(self) -> web.Response:
        version = self._receiver.version
        held = Held(
            proxy=self._proxy,
            fleet=self._receiver.fleet,
            version=self._version,
            epoch=version.epoch if version else None,
            revision=version.revision if version else None,
        )
        return _json(held.model_dump_json().encode())


def guard(fleet: str) -> Middleware:
    """Let in who the certificate says may come in; see `Role`."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        held = roles(transport.get_extra_info("peercert") if transport else None, fleet)
        if Role.OPERATOR in held:
            return await handler(request)
        if Role.PROXY in held and request.method == "GET" and request.path in READABLE_BY_PROXIES:
            return await handler(request)
        return _refusal(
            403,
            f"{request.method} {request.path} needs a client certificate with the URI "
            f"{role_uri(fleet, Role.OPERATOR)}",
        )

    return check


@web.middleware
async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors of the framework in the form of ours."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, f"a body may have at most {MAX_SNAPSHOT_BYTES} bytes")
    except web.HTTPException as error:
        return _refusal(error.status, error.reason)


def _refusal(status: int, error: str, held: Version | None = None) -> web.Response:
    refusal = Refusal(
        error=error, epoch=held.epoch if held else None, revision=held.revision if held else None
    )
    return _json(refusal.model_dump_json().encode(), status)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")

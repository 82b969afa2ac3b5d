"""The operator as a whole: which part tells which.

watches ─┐                       ┌▶ publisher ──▶ proxies
├▶ store ─▶ reconciler ─┤       │ acknowledgements
resync ──┘       ▲               └▶ reporter ◀── collector (sessions) ──▶ lender ──▶ proxies
references ──────┘
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from stickyroute_api.settings import Settings
from stickyroute_operator import cluster, fleet, keys, pki, rotation, settings
from stickyroute_operator.cluster import ApiError, Cluster, Secrets, until_granted
from stickyroute_operator.costs import Cost, Costs, costs
from stickyroute_operator.epoch import Superseded, raise_epoch
from stickyroute_operator.handlers import Watches
from stickyroute_operator.health import Health
from stickyroute_operator.joining import Sets
from stickyroute_operator.journal import Journal
from stickyroute_operator.ledger import ScopeView
from stickyroute_operator.lend import Lender
from stickyroute_operator.objects import SERVICE_LABEL, EndpointSlice, Key
from stickyroute_operator.publish import Publisher
from stickyroute_operator.recall import recall
from stickyroute_operator.reconcile import Acked, Reconciler
from stickyroute_operator.references import References
from stickyroute_operator.report import Collector
from stickyroute_operator.reporter import Fleet, Reporter
from stickyroute_operator.resync import Resync
from stickyroute_operator.rotation import Rotation
from stickyroute_operator.store import PODS, SLICES, Store
from stickyroute_operator.storesecret import StoreSecret

logger = logging.getLogger(__name__)

RENEWAL = timedelta(hours=1)
"""How often certificates are looked at."""
FLEET_POLL = 1.0
"""Seconds between two looks at where the proxies are, when their namespace is not watched."""
API_RETRY = 1.0
"""Seconds after a request that the API server did not grant."""
SECRET_RETRY = 5.0
"""Seconds after a Secret that holds what is of no use: a person mends it."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    fleet: str
    namespace: str
    """Of the release: where the proxies, the Secrets and the Lease are."""
    release: str
    """The chart's full name, which begins the names of all that it made."""
    instance: str
    """This operator, for the Lease and for Events."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all."""
    health: tuple[str, int] = ("0.0.0.0", 8081)
    settings: Path | None = None
    """The file that says the fleet's; None: the defaults."""
    trusted_proxies: tuple[str, ...] = ()
    """In place of those in the file, where there are any."""
    allow_shared_hosts: bool = False
    pod_deletion_cost: bool = False
    """Pods may be given a deletion cost, where routes ask for it."""
    store_secret: StoreSecret | None = None
    rotate_every: timedelta = rotation.EVERY
    """How long a token key seals; 0: until a rotation is ordered."""

    @property
    def lease(self) -> str:
        return f"{self.release}-operator"

    @property
    def control_service(self) -> str:
        return f"{self.release}-proxy-control"


class Operator:
    """One operator process. `now` is the wall clock."""

    def __init__(
        self, options: Options, api: Cluster, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.health = Health()
        self._options = options
        self._api = api
        self._now = now
        self._tls: ssl.SSLContext | None = None
        self._raising: asyncio.Task[None] | None = None
        self._superseded = asyncio.Event()
        self._leads = asyncio.Event()
        self._started = now().timestamp()
        self._given = Settings() if options.settings is None else settings.read(options.settings)
        self._store_found: dict[str, str] = {}
        self.store = Store(self._stored, options.watch_namespaces, self._heeds)
        self.publisher = Publisher(options.fleet, self._context, self._acknowledged, self._met_higher)
        self.collector = Collector(self._context, self._counted, now=lambda: now().timestamp())
        self.lender = Lender(self.publisher, self.collector)
        watched = set(options.watch_namespaces)
        self.references = References(api, self._referred)
        self.reconciler = Reconciler(
            self.store,
            options.fleet,
            self.publisher,
            self._reconciled,
            named=self.references,
            now=now,
            settings=self._chosen(self._given),
            is_ours=lambda key: not watched or key[0] in watched,
            allow_shared_hosts=options.allow_shared_hosts,
            may_cost=options.pod_deletion_cost,
        )
        self.rotation = Rotation(
            Secrets(api, options.namespace),
            pki.Names.of(options.release).token_keys,
            self.reconciler.take_keys,
            self._is_everywhere,
            self._opens_for,
            every=options.rotate_every,
            now=now,
        )
        self.costs = Costs(api, self._costs, self._lives)
        self._knows_sessions = False
        journal = Journal(api, options.instance, now)
        self.reporter = Reporter(api, journal, self.reconciler, self._fleet, now=now)
        self.watches = Watches(self.store.take, options.watch_namespaces, self._relisted)
        self.resync = Resync(
            api,
            self.store,
            namespaces=options.watch_namespaces,
            heard=self.watches.heard,
            restart_watches=self.watches.restart,
        )
        self.health.watches = self.watches
        self.health.resync = self.resync
        self.health.reconciler = self.reconciler
        self.health.publisher = self.publisher
        self.health.reporter = self.reporter
        self.health.sessions = self._sessions

    async def run(self) -> None:
        """Works until cancelled. Raises Superseded when another operator took the fleet over."""
        async with _serving(self.health.app(), *self._options.health):
            try:
                async with asyncio.TaskGroup() as tasks:
                    for part in (
                        self._watch(),
                        self.resync.run(),
                        self.references.run(),
                        self.reconciler.run(),
                        self.reporter.run(),
                        self.lender.run(),
                        self._start(),
                        self._rotate(),
                        self._until_superseded(),
                    ):
                        tasks.create_task(part)
                    if self._options.pod_deletion_cost:
                        tasks.create_task(self.costs.run())
                    if self._options.store_secret is not None:
                        tasks.create_task(self._follow_store(self._options.store_secret))
                    if self._options.settings is not None:
                        tasks.create_task(settings.follow(self._options.settings, self._take_settings))
                    if not self._is_fleet_watched:
                        tasks.create_task(self._poll_fleet())
            finally:
                if self._raising is not None:
                    self._raising.cancel()
                await self.publisher.close()
                await self.lender.close()
                await self.collector.close()

    async def _start(self) -> None:
        """Identity, keys and epoch; from then on certificates are kept good."""
        await self._ensure_secrets()
        self.health.waiting_for = f"Lease {self._options.namespace}/{self._options.lease}"
        epoch = await until_granted("the epoch", lambda: self._take_epoch(0, must_hold=False))
        self.health.waiting_for = "the proxies to say what they serve"
        self.reconciler.take_past(await self._recall())
        self.health.waiting_for = ""
        logger.info("operator of fleet %s, epoch %s", self._options.fleet, epoch)
        self.reconciler.take_epoch(epoch)
        self._find_fleet(self.store.slices.values())
        self._leads.set()
        while True:
            await asyncio.sleep(RENEWAL.total_seconds())
            await self._ensure_secrets()
            self.reconciler.poke()  # a certificate may have come near its end

    async def _recall(self) -> Sets:
        """What the proxies serve, all of them being known: what began under another operator goes on."""
        if self._is_fleet_watched:
            await self.resync.listed.wait()
            slices = list(self.store.slices.values())
        else:
            slices = await self._fleet_slices()
        found = fleet.proxies(slices, self._options.namespace, self._options.control_service)
        return await recall(self._options.fleet, found, self._context())

    async def _rotate(self) -> None:
        await self._leads.wait()
        await self.rotation.run()

    async def _watch(self) -> None:
        # Not before the first LIST: kopf finds out once what there is to watch, and a CRD may come late.
        await self.resync.listed.wait()
        await self.watches.run()

    async def _ensure_secrets(self) -> None:
        """The operator's certificate and the token keys, made where they are not there yet."""
        secrets = Secrets(self._api, self._options.namespace)
        names = pki.Names.of(self._options.release)
        told = ""
        while True:
            try:
                identity = await pki.ensure(secrets, names, self._options.fleet, self._now())
                tokens = await keys.ensure(secrets, names.token_keys, self._now())
                break
            except (pki.SecretError, ApiError) as error:
                if str(error) != told:
                    told = str(error)
                    logger.error("%s", error)  # noqa: TRY400 - what a person mends, without a traceback
                if self._tls is None:
                    self.health.waiting_for = str(error)
                pause = API_RETRY if isinstance(error, ApiError) else SECRET_RETRY
            await asyncio.sleep(pause)
        self._tls = identity.client_context()
        self.reconciler.take_keys(tokens)

    async def _take_epoch(self, above: int, *, must_hold: bool) -> int:
        options = self._options
        return await raise_epoch(
            self._api,
            options.namespace,
            options.lease,
            options.instance,
            above=above,
            must_hold=must_hold,
            now=self._now,
        )

    async def _follow_store(self, named: StoreSecret) -> None:
        """Keep what is secret of the store in the settings."""

        def take(found: dict[str, str]) -> None:
            self._store_found = found
            self._take_settings(self._given)

        await named.follow(Secrets(self._api, self._options.namespace), take)

    def _chosen(self, given: Settings) -> Settings:
        trusted = self._options.trusted_proxies
        if trusted:
            given = given.model_copy(update={"trusted_proxies": trusted})
        if self._store_found:
            given = given.model_copy(update={"store": given.store.model_copy(update=self._store_found)})
        return given

    def _take_settings(self, given: Settings) -> None:
        self._given = given
        self.reconciler.take_settings(self._chosen(given))

    def _met_higher(self, epoch: int) -> None:
        """A proxy holds a newer epoch: take a higher one, unless another operator has taken over."""
        if self._raising is None or self._raising.done():
            self._raising = asyncio.get_running_loop().create_task(self._raise_above(epoch))

    async def _raise_above(self, epoch: int) -> None:
        try:
            taken = await until_granted("the epoch", lambda: self._take_epoch(epoch, must_hold=True))
        except Superseded as error:
            logger.error("%s", error)  # noqa: TRY400 - a state, not a defect
            self._superseded.set()
            return
        logger.warning("a proxy holds epoch %s: going on with epoch %s", epoch, taken)
        self.reconciler.take_epoch(taken)

    async def _until_superseded(self) -> None:
        await self._superseded.wait()
        raise Superseded("another operator has taken the fleet over")

    @property
    def _is_fleet_watched(self) -> bool:
        watched = self._options.watch_namespaces
        return not watched or self._options.namespace in watched

    async def _poll_fleet(self) -> None:
        while True:
            self._find_fleet(await self._fleet_slices())
            await asyncio.sleep(FLEET_POLL)

    async def _fleet_slices(self) -> list[EndpointSlice]:
        selector = f"{SERVICE_LABEL}={self._options.control_service}"
        items, _ = await until_granted(
            "the fleet's EndpointSlices",
            lambda: self._api.list_all(cluster.SLICES, namespace=self._options.namespace, selector=selector),
        )
        return [EndpointSlice.from_manifest(item) for item in items]

    def _find_fleet(self, slices: Iterable[EndpointSlice]) -> None:
        if self._tls is None:
            return
        slices = list(slices)
        found = fleet.proxies(slices, self._options.namespace, self._options.control_service)
        self.reconciler.take_zones(
            fleet.zones(slices, self._options.namespace, self._options.control_service)
        )
        self.reconciler.take_proxies(len(found))
        self.publisher.target(found)
        self.collector.target(found)
        self.lender.target(found)
        self._acknowledged()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            raise RuntimeError("no proxy is targeted before the operator has its certificate")
        return self._tls

    def _heeds(self, kind: str, key: Key) -> bool:
        return kind != PODS or self.reconciler.heeds(key)

    def _stored(self, kind: str) -> None:
        if kind == SLICES and self._is_fleet_watched:
            self._find_fleet(self.store.slices.values())
        self.reconciler.poke()

    def _referred(self) -> None:
        self.reconciler.poke()

    def _acknowledged(self) -> None:
        acks = self._acks()
        self.reconciler.acknowledged(acks)
        if all(ack.version == self.reconciler.version for ack in acks if ack.ready):
            # Who lost its pod by this snapshot is known to the proxies now.
            self.collector.poke()
        self.rotation.acknowledged()
        self.reporter.poke()

    def _counted(self) -> None:
        self.lender.poke()
        self.reporter.poke()

    def _relisted(self) -> None:
        self.resync.soon()

    def _reconciled(self) -> None:
        self.lender.poke()
        self.reporter.poke()

    def _costs(self) -> dict[Key, Cost] | None:
        """What pods should cost; None while a proxy has not told of its sessions."""
        translation = self.reconciler.translation
        if translation is None or not self._have_told():
            return None
        return costs(translation, self.collector.view())

    def _sessions(self) -> Mapping[str, ScopeView] | None:
        """The fleet's sessions by scope; None from the start until all proxies have told of theirs.

        One that joins later brings next to none, and is not waited for.
        """
        self._knows_sessions = self._knows_sessions or self._have_told()
        return self.collector.view() if self._knows_sessions else None

    def _have_told(self) -> bool:
        """Whether there are proxies that serve, and the collector has a report of each."""
        serving = [ack.name for ack in self._acks() if ack.ready]
        return bool(serving) and self.collector.ledger.running.keys() >= set(serving)

    def _lives(self, pod: Key, uid: str) -> bool:
        known = self.store.pods.get(pod)
        return known is not None and known.uid == uid and known.lives

    def _is_everywhere(self, key: int) -> bool:
        """Whether every proxy that serves, or may at any moment, holds the token key of that number."""
        since = self.reconciler.keys_since.get(key)
        acks = [ack for ack in self._acks() if ack.ready or ack.version is not None]
        return (
            since is not None
            and any(ack.ready for ack in acks)
            and all(ack.version is not None and ack.version >= since for ack in acks)
        )

    def _opens_for(self) -> timedelta | None:
        translation = self.reconciler.translation
        return None if translation is None else rotation.opens_for(translation.routes.values())

    def _acks(self) -> tuple[Acked, ...]:
        return tuple(
            Acked(
                proxy.name,
                proxy.ready,
                proxy.acked,
                proxy.error,
                is_refusal=proxy.refused is not None and proxy.refused == self.reconciler.version,
            )
            for _, proxy in sorted(self.publisher.proxies.items())
        )

    def _fleet(self) -> Fleet:
        ledger = self.collector.ledger
        processes = [(one.proxy, one.started) for one in (*ledger.running.values(), *ledger.ended)]
        return Fleet(
            proxies=self._acks(),
            scopes=self.collector.view(),
            counted_since=min((started for _, started in processes), default=self._started),
            has_told=self._sessions() is not None,
            counters=frozenset(one for one in processes if one[1] < self._started),
        )


@contextlib.asynccontextmanager
async def _serving(app: web.Application, host: str, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()

"""The control port's TLS: certificates from mounted files, followed when they are renewed."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

logger = logging.getLogger(__name__)

POLL = 10.0
"""Seconds between looks at the files; a kubelet takes up to a minute to bring a renewal."""


class CertificateError(Exception):
    """The certificate files did not come, or are of no use."""


@dataclass(frozen=True, slots=True)
class Files:
    """The keys of the fleet's proxy Secret, as files of one directory."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    def missing(self) -> list[Path]:
        """Those that are absent or empty."""
        return [
            path
            for path in (self.certificate, self.key, self.authority)
            if not path.is_file() or not path.stat().st_size
        ]

    def fingerprint(self) -> bytes:
        """Changes with the content; the times of a mounted Secret's files say little.

        Raises OSError while the files are being replaced.
        """
        digest = hashlib.sha256()
        for path in (self.certificate, self.key, self.authority):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.digest()

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 with a client certificate of the fleet's CA required. Raises `CertificateError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CertificateError(
                f"the certificates in {self.directory} are of no use ({error}): empty the Secret that is "
                "mounted there, and the operator fills it anew"
            ) from None
        return context


async def wait(files: Files, limit: float, every: float = 1.0) -> None:
    """Return when all files are there; raise `CertificateError` after `limit` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    told = False
    while missing := files.missing():
        names = ", ".join(path.name for path in missing)
        if loop.time() >= deadline:
            raise CertificateError(
                f"{names} did not appear in {files.directory} within {limit:g} s: is the proxy Secret "
                "mounted there, and does the operator run? It fills the Secret"
            )
        if not told:
            logger.warning("waiting for %s in %s: the operator fills the Secret", names, files.directory)
            told = True
        await asyncio.sleep(min(every, max(0.0, deadline - loop.time())))


class SecureSite:
    """An aiohttp application on one listening socket, whose certificates can change.

    Each renewal starts a second server on the same socket and then ends the first: connections wait in the
    socket's queue meanwhile, established ones live on, and an old CA is forgotten rather than added to.
    """

    def __init__(self, runner: web.AppRunner, listener: socket.socket, files: Files) -> None:
        self._runner = runner
        self._listener = listener
        self._files = files
        self._site: web.SockSite | None = None
        self._serving = b""

    async def start(self) -> None:
        """Serve with what the files hold now. Raises `CertificateError`."""
        try:
            fingerprint = await asyncio.to_thread(self._files.fingerprint)
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read ({error.strerror})") from None
        context = self._files.context()
        site = web.SockSite(self._runner, self._listener.dup(), ssl_context=context)
        await site.start()
        if self._site is not None:
            await self._site.stop()
        self._site, self._serving = site, fingerprint

    async def follow(self, every: float = POLL, renewed: Callable[[], None] | None = None) -> None:
        """Bring renewed files into use, for ever. Bad ones are told and the old ones serve on."""
        told = b""
        while True:
            await asyncio.sleep(every)
            try:
                fingerprint = await asyncio.to_thread(self._files.fingerprint)
            except OSError:
                continue  # between two states of the mount
            if fingerprint in (self._serving, told):
                continue
            try:
                await self.start()
            except CertificateError as error:
                told = fingerprint
                logger.error("%s; the old certificates serve on", error)  # noqa: TRY400
                continue
            logger.info("renewed certificates of %s are in use", self._files.directory)
            if renewed is not None:
                renewed()

    async def stop(self) -> None:
        """End listening; connections end with the runner."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        with contextlib.suppress(OSError):
            self._listener.close()

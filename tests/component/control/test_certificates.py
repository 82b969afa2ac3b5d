"""Renewed certificates come into use without a restart; bad ones do not; a wrong server is not spoken to."""

import asyncio
import contextlib
import ssl

import aiohttp
import pytest
from tests.component.control.support import Authority, client, serve
from tests.waiting import until

from stickyroute_api.control import Role
from stickyroute_proxy.tls import CertificateError, Files, wait


async def version(session, served):
    async with session.get(f"{served.url}/v1/version") as answer:
        return answer.status


@contextlib.asynccontextmanager
async def following(served, **more):
    task = asyncio.create_task(served.site.follow(every=0.02, **more))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_new_ca_is_believed_and_the_old_one_is_not(authority, files):
    renewed = []
    other = Authority()
    async with serve(files) as served, following(served, renewed=lambda: renewed.append(1)):
        async with client(authority.context()) as before:
            assert await version(before, served) == 200
            other.write(files)
            await until(lambda: renewed)
            assert await version(before, served) == 200, "an established connection lives on"
        async with client(other.context()) as after:
            assert await version(after, served) == 200
        async with client(authority.context()) as old:
            with pytest.raises(aiohttp.ClientError):
                await version(old, served)
        assert len(served.site._runner.sites) == 1, "the server with the old certificates is closed"


async def test_a_mount_that_swaps_a_link_is_followed(authority, tmp_path):
    """As the kubelet renews a mounted Secret: the files are links through a link to a directory."""
    mount = tmp_path / "mount"
    mount.mkdir()
    authority.write(mount / "..first")
    (mount / "..data").symlink_to("..first")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (mount / name).symlink_to(f"..data/{name}")
    other = Authority()
    renewed = []
    async with serve(mount) as served, following(served, renewed=lambda: renewed.append(1)):
        other.write(mount / "..second")
        (mount / "..new").symlink_to("..second")
        (mount / "..new").replace(mount / "..data")
        await until(lambda: renewed)
        async with client(other.context()) as session:
            assert await version(session, served) == 200


async def test_bad_files_are_told_once_and_the_old_ones_serve_on(authority, files, caplog):
    async with serve(files) as served, following(served):
        (files / "tls.crt").write_text("garbage")
        await until(lambda: "of no use" in caplog.text)
        await asyncio.sleep(0.1)
        assert caplog.text.count("of no use") == 1
        assert "empty the Secret" in caplog.text
        async with client(authority.context()) as session:
            assert await version(session, served) == 200
        authority.write(files)
        await until(lambda: served.site._serving == Files(files).fingerprint())
        async with client(authority.context()) as session:
            assert await version(session, served) == 200


async def test_start_waits_for_the_files(authority, tmp_path, caplog):
    directory = tmp_path / "later"
    waiting = asyncio.create_task(wait(Files(directory), limit=5, every=0.01))
    await until(lambda: "waiting for tls.crt, tls.key, ca.crt" in caplog.text)
    authority.write(directory)
    await waiting


async def test_start_gives_up_with_a_message(tmp_path):
    with pytest.raises(CertificateError, match=r"tls.crt, tls.key, ca.crt did not appear in .* within 0 s"):
        await wait(Files(tmp_path), limit=0)


@pytest.mark.parametrize(
    ("role", "fleet"), [(Role.OPERATOR, None), (Role.PROXY, "other")], ids=["no proxy", "other fleet"]
)
async def test_nothing_is_sent_to_a_server_that_is_no_proxy_of_the_fleet(authority, tmp_path, role, fleet):
    """The check is part of the handshake: the server never sees a request."""
    from stickyroute_operator import pki

    heard = []
    leaf = pki.issue(authority.ca, fleet or authority.fleet, role, authority.now)
    for name, content in pki.leaf_data(authority.ca, leaf).items():
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def hear(reader, writer):
        with contextlib.suppress(OSError):
            heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    async with server, client(authority.context()) as session:
        port = server.sockets[0].getsockname()[1]
        url = f"https://127.0.0.1:{port}/v1/snapshot"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.put(url, data=b"secret", timeout=aiohttp.ClientTimeout(total=2))
    assert b"".join(heard) == b""

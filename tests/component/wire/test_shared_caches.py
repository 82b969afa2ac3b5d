"""No shared cache keeps an answer that carries something of ours, whatever carries it."""

import re

import pytest
from tests.component.wire.harness import COOKIE, echo, get, serving

from stickyroute_api import snapshot
from stickyroute_proxy.affinity.token import LENGTH

OURS = {
    "our cookie": {"type": "Cookie", "cookie": snapshot.Cookie(name=COOKIE)},
    "our header": {"type": "Header", "name": "X-Session"},
}
LEARNED = {
    "application's cookie": {"type": "AppCookie", "name": "ID"},
    "application's header": {"type": "Header", "name": "Mcp-Session-Id"},
}
GIVEN = b"Set-Cookie: ID=value; Path=/\r\nMcp-Session-Id: value\r\n"
LICENCES = {
    "public": b"Cache-Control: public, max-age=60\r\n",
    "s-maxage": b"Cache-Control: max-age=5\r\ncache-control: S-MaxAge=60\r\n",
    "behind quotes": b'Cache-Control: private="a, b", public, max-age=5\r\n',
    "for a CDN": b"Cache-Control: max-age=5\r\nCDN-Cache-Control: max-age=60\r\n",
    "for one CDN": b"Cache-Control: private\r\nAcme-CDN-Cache-Control: max-age=60\r\n",
    "for surrogates": b"Surrogate-Control: max-age=60\r\n",
}
TOKEN = re.compile(rb"[A-Za-z0-9_-]{%d}" % LENGTH)


def answer(fields, status=b"200 OK"):
    length = b"" if status.startswith(b"304") else b"Content-Length: 2\r\n"
    return b"HTTP/1.1 %b\r\n%b%b\r\n" % (status, fields, length)


async def answered(policy, fields, status=b"200 OK"):
    """The lines, in lower case, that a client gets of an answer with these."""
    body = b"" if status.startswith(b"304") else b"ok"
    script = echo(lambda *_: answer(fields, status) + body)
    async with serving(script, persistence=snapshot.Persistence(**policy)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get())
        head = await raw.head()
        await raw.close()
        return head.splitlines()


def directives(lines):
    """All that Cache-Control says."""
    values = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"cache-control:")]
    return {each.strip().lower() for each in b",".join(values).split(b",") if each.strip()}


@pytest.mark.parametrize("licence", LICENCES.values(), ids=LICENCES)
@pytest.mark.parametrize("policy", OURS.values(), ids=OURS)
async def test_what_is_for_them_stays_so_and_has_no_token(policy, licence):
    """The next answer has it."""
    lines = await answered(policy, licence)
    assert not any(map(TOKEN.search, lines))
    assert set(licence.splitlines()) <= set(lines)


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"304 Not Modified"])
@pytest.mark.parametrize("licence", [*LICENCES.values(), b""], ids=[*LICENCES, "none"])
@pytest.mark.parametrize("policy", LEARNED.values(), ids=LEARNED)
async def test_what_has_an_envelope_is_for_its_client_alone(policy, licence, status):
    """To keep the value back would break the login."""
    lines = await answered({**policy, "learn": "Envelope"}, GIVEN + licence, status)
    assert sum(TOKEN.search(line) is not None for line in lines) == 1
    assert b"private" in directives(lines)
    assert not {b"public", b"s-maxage=60"} & directives(lines)
    assert (b"max-age=5" in directives(lines)) == (b"max-age=5" in licence)
    assert not any(line.lower().startswith((b"cdn-", b"acme-cdn-", b"surrogate-")) for line in lines)


@pytest.mark.parametrize("forbids", [b"private", b"no-store"])
async def test_what_forbids_a_cache_to_keep_it_stays(forbids):
    said = b"Cache-Control: %b\r\nCDN-Cache-Control: no-store\r\nSurrogate-Control: private\r\n" % forbids
    lines = await answered({**LEARNED["application's cookie"], "learn": "Envelope"}, GIVEN + said)
    assert set(said.splitlines()) <= set(lines)
    assert directives(lines) == {forbids}


@pytest.mark.parametrize("licence", LICENCES.values(), ids=LICENCES)
@pytest.mark.parametrize("policy", LEARNED.values(), ids=LEARNED)
async def test_what_carries_nothing_of_ours_stays_as_the_application_says(policy, licence):
    stored = await answered({**policy, "learn": "Store"}, GIVEN + licence)
    assert set((GIVEN + licence).splitlines()) <= set(stored)
    others = b"Set-Cookie: other=1\r\nSet-Cookie: ID=; Max-Age=0\r\n" + licence
    lines = await answered({**policy, "learn": "Envelope"}, others)
    assert set(others.splitlines()) <= set(lines)
    assert b"Cache-Control: private" not in lines or b"Cache-Control: private" in licence


async def test_a_connection_s_next_answer_is_read_anew():
    """What was taken from an answer with an envelope is not taken from a like one without."""
    heads = [answer(GIVEN + LICENCES["for a CDN"]), answer(LICENCES["for a CDN"])]
    replies = iter((heads[0], heads[1], heads[0], heads[1]))
    script = echo(lambda *_: next(replies) + b"ok")
    policy = snapshot.Persistence(**LEARNED["application's cookie"], learn="Envelope")
    async with serving(script, persistence=policy) as (proxy, _):
        raw = await proxy.connect()
        try:
            for has_one in (True, False, True, False):
                await raw.send(get())
                head, _ = await raw.answer()
                assert (b"\r\nCDN-Cache-Control: max-age=60\r\n" in head) != has_one
                assert (b"private" in head) == has_one
        finally:
            await raw.close()

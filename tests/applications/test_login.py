"""Logins in memory: Django's sessions in Django's local cache."""

import asyncio
import re
import signal
from contextlib import asynccontextmanager

import aiohttp
import pytest

LOGIN = "login/login.yaml"
COOKIES = {
    "learned": {},
    "ours": {"type": "Cookie", "sessionName": "login", "learn": None},
}
"""Both ways to know a session: by the application's own cookie, or by ours beside it."""


class Browser:
    def __init__(self, url, http):
        self._url, self._http = url, http

    async def get(self, path="/"):
        """The page where redirects end, its text without the pod's name, and the pod's name."""
        async with self._http.get(self._url + path) as answer:
            return await self._told(answer)

    async def log_in(self, name):
        _, form, _ = await self.get("/login")
        token = re.search(r'value="(\w+)"', form)[1]
        data = {"name": name, "csrfmiddlewaretoken": token}
        async with self._http.post(f"{self._url}/login", data=data) as answer:
            return await self._told(answer)

    def cookies(self):
        return sorted(cookie.key for cookie in self._http.cookie_jar)

    @staticmethod
    async def _told(answer):
        text, _, pod = (await answer.text()).partition(" at ")
        assert answer.status == 200, text
        return answer.url.path, text, pod


@asynccontextmanager
async def browser(url):
    each = aiohttp.TCPConnector(force_close=True)  # each request may come to the other proxy
    async with aiohttp.ClientSession(connector=each) as http:
        yield Browser(url, http)


async def visit(name, url):
    """All that a visitor sees who logs in, comes often, logs out and in again; and by which pods."""
    async with browser(url) as one:
        told, pods = [(await one.get())[0]], set()
        for _ in range(2):
            for page in [await one.log_in(name), *[await one.get() for _ in range(10)]]:
                told.append(page[:2])
                pods.add(page[2])
            told.append((await one.get("/logout"))[0])
            told.append((await one.get())[0])
        return told, pods


@pytest.mark.parametrize("policy", COOKIES.values(), ids=COOKIES)
async def test_it_works_as_with_one_pod(fleet, policy):
    async with fleet(LOGIN, **policy) as (_, front, alone):

        async def all_visit(url):
            return await asyncio.gather(*(visit(f"visitor {number}", url) for number in range(6)))

        direct, proxied = await all_visit(alone.url), await all_visit(front.url)
        assert [told for told, _ in proxied] == [told for told, _ in direct]
        assert len(set().union(*(pods for _, pods in proxied))) > 1


@pytest.mark.parametrize("policy", COOKIES.values(), ids=COOKIES)
async def test_who_loses_the_pod_is_told_logs_in_again_and_stays_at_one_other(fleet, policy):
    async with fleet(LOGIN, **policy) as (pods, front, _), browser(front.url) as ann:
        *_, first = await ann.log_in("ann")
        assert await ann.get() == ("/", "ann, visit 2", first)
        await pods.delete(first)
        path, form, _ = await ann.get("/login")
        assert path == "/login"
        assert "PodTerminated" in form
        path, form, _ = await ann.get()  # the application itself sends whom it does not know to its login
        assert path == "/login"
        assert "PodTerminated" not in form
        path, text, second = await ann.log_in("ann")
        assert (path, text) == ("/", "ann, visit 1")
        assert second != first
        assert [await ann.get() for _ in range(5)] == [("/", f"ann, visit {n}", second) for n in range(2, 7)]


async def test_with_redirect_who_loses_the_pod_is_sent_to_the_login(fleet):
    redirect = {"mode": "Redirect", "redirectURL": "/login?again"}
    async with (
        fleet(LOGIN, **COOKIES["ours"], failover=redirect) as (pods, front, _),
        browser(front.url) as ann,
    ):
        *_, first = await ann.log_in("ann")
        await pods.delete(first)
        path, form, _ = await ann.get("/any/page")  # one that the application does not have
        assert path == "/login"
        assert "PodTerminated" not in form  # the redirect ended the session, and this is a new one
        path, text, second = await ann.log_in("ann")
        assert (path, text) == ("/", "ann, visit 1")
        assert second != first
        assert [await ann.get() for _ in range(5)] == [("/", f"ann, visit {n}", second) for n in range(2, 7)]


@pytest.mark.parametrize("policy", COOKIES.values(), ids=COOKIES)
async def test_a_draining_pod_keeps_its_logins_until_they_end(fleet, policy):
    async with fleet(LOGIN, **policy) as (pods, front, _), browser(front.url) as ann:
        *_, first = await ann.log_in("ann")
        await pods.terminate(first)
        assert [await ann.get() for _ in range(5)] == [("/", f"ann, visit {n}", first) for n in range(2, 7)]
        for _ in range(3):
            async with browser(front.url) as newcomer:
                assert (await newcomer.log_in("ben"))[2] != first
        await ann.get("/logout")
        await pods.delete(first)
        assert (await ann.log_in("ann"))[1] == "ann, visit 1"


@pytest.mark.parametrize("policy", COOKIES.values(), ids=COOKIES)
async def test_a_pod_that_dies_unannounced_is_as_good_as_gone(fleet, policy):
    async with fleet(LOGIN, **policy) as (pods, front, _), browser(front.url) as ann:
        *_, first = await ann.log_in("ann")
        await pods.pods[first].end(signal.SIGKILL)
        _, form, _ = await ann.get("/login")
        assert "ConnectFailed" in form
        *_, second = await ann.log_in("ann")
        assert second != first
        await pods.delete(first)
        assert [await ann.get() for _ in range(5)] == [("/", f"ann, visit {n}", second) for n in range(2, 7)]

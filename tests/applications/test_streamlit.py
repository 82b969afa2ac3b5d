"""A Streamlit app in Chromium: session state behind a WebSocket, and uploads beside it."""

import re
import shutil
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import async_playwright, expect

DASHBOARD = "streamlit/dashboard.yaml"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 30_000
"""Milliseconds that a page has for what it does at last."""


@pytest.fixture
async def chromium():
    path = shutil.which("chromium")
    assert path, "chromium is not on PATH: on Debian, apt install chromium"
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


class Page:
    """The app in a browser window with cookies of its own."""

    def __init__(self, page):
        self.page = page

    async def counted(self, number):
        """Waits for the count; the pod that shows it."""
        return await self._told(f"{number} counted by ")

    async def _told(self, words):
        text = self.page.get_by_text(re.compile(f"^{words}"))
        await expect(text).to_be_visible(timeout=PATIENCE)
        return (await text.inner_text()).removeprefix(words)

    async def count(self):
        await self.page.get_by_role("button", name="Count").click()

    async def upload(self):
        """Waits until the app has the file; the pod that says so."""
        file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"a" * 100_000}
        await self.page.locator("input[type=file]").set_input_files(file)
        return await self._told("100000 bytes at ")

    @asynccontextmanager
    async def connecting_again(self):
        """What happens in the block breaks the line; at its end there is another one."""
        async with self.page.expect_websocket(timeout=PATIENCE):
            yield
        await expect(self.page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-connection-state", "CONNECTED", timeout=PATIENCE
        )


@asynccontextmanager
async def window(chromium, url):
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(url)
    yield Page(page)
    await context.close()


async def use(chromium, url):
    """What one window shows; and by which pods."""
    async with window(chromium, url) as one:
        pods = {await one.counted(0)}
        for number in range(1, 6):
            await one.count()
            pods.add(await one.counted(number))
        return pods | {await one.upload()}


async def test_it_works_as_with_one_pod(fleet, chromium):
    async with fleet(DASHBOARD) as (_, front, alone):
        assert len(await use(chromium, alone.url)) == 1
        seen = [await use(chromium, front.url) for _ in range(3)]
        assert all(len(pods) == 1 for pods in seen)
        assert len(set().union(*seen)) > 1


async def test_a_broken_line_finds_its_session_again(fleet, chromium):
    async with fleet(DASHBOARD) as (_, front, _), window(chromium, front.url) as one:
        await one.count()
        first = await one.counted(1)
        for number in range(2, 5):
            async with one.connecting_again():
                front.cut()
            await one.count()
            assert await one.counted(number) == first


async def test_a_deleted_pods_window_goes_on_at_one_other(fleet, chromium):
    async with fleet(DASHBOARD) as (pods, front, _), window(chromium, front.url) as one:
        for number in range(1, 4):
            await one.count()
            first = await one.counted(number)
        async with one.connecting_again():
            await pods.delete(first)
        await one.count()
        second = await one.counted(1)
        assert second != first
        await expect(one.page.get_by_text("please begin again (PodTerminated)")).to_be_visible()
        for number in range(2, 6):
            await one.count()
            assert await one.counted(number) == second
        assert await one.upload() == second


async def test_a_draining_pod_keeps_its_windows_until_they_close(fleet, chromium):
    async with fleet(DASHBOARD, drainTimeout="1m") as (pods, front, _):
        async with window(chromium, front.url) as one:
            first = await one.counted(0)
            await pods.terminate(first)
            async with one.connecting_again():
                front.cut()
            await one.count()
            assert await one.counted(1) == first
            assert await one.upload() == first
            async with window(chromium, front.url) as newcomer:
                assert await newcomer.counted(0) != first
        await pods.delete(first)

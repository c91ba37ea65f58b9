"""What belongs to one browser tab, and is removed when the tab is closed."""

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mrlift.errors import InputError
from mrlift.viewer.cases import Case
from mrlift.viewer.uploads import Upload
from mrlift.viewer.work import BusyError, Desk, Job, Work

FIRST = 4  # graces that a new tab has to connect: its browser is loading much else
TICK = 1.0  # seconds between signs of life; a closed connection shows within one


class Tab:
    """A browser tab: its folder, cases, upload, job, and the stream of events to it.

    Made by `Tabs.open`; lives on the event loop, only `post` may be called from other threads.
    """

    def __init__(self, root: Path) -> None:
        self.id = secrets.token_urlsafe(12)
        self.folder = Path(tempfile.mkdtemp(prefix="tab-", dir=root))
        self.cases: dict[str, Case] = {}
        self.upload: Upload | None = None
        self.job: Job | None = None
        self.loading = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    def add(self, case: Case) -> str:
        """Keep a case; returns its id."""
        name = str(len(self.cases) + 1)
        self.cases[name] = case
        return name

    def new_folder(self, prefix: str) -> Path:
        """An empty folder that goes with the tab."""
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))

    def post(self, kind: str, facts: dict[str, Any]) -> None:
        """Send an event to the page; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (kind, facts))

    def work(self, desk: Desk, title: str, work: Work) -> None:
        """Begin a job.

        Raises:
            BusyError: one is running, here or in another tab.
        """
        job = Job(title, work, self.post)
        desk.start(job)
        self.job = job

    def drop_upload(self) -> None:
        """Forget the upload and remove its files."""
        if self.upload is not None:
            self.upload.discard()
            self.upload = None

    async def next_event(self) -> str:
        """The next event as text/event-stream, or a comment if nothing happens for a while."""
        try:
            kind, facts = await asyncio.wait_for(self._queue.get(), TICK)
        except TimeoutError:
            return ": alive\n\n"
        return f"event: {kind}\ndata: {json.dumps(facts)}\n\n"

    async def remove(self) -> None:
        """Cancel what runs, wait for its end, remove every file."""
        if self.job is not None:
            self.job.cancel()
            await asyncio.to_thread(self.job.join)
        async with self.loading:
            self.drop_upload()
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


class Tabs:
    """All open tabs.

    Args:
        root: an existing folder of the user alone.
        grace: seconds for which a tab is kept without a connection: a reload, a lost packet.
    """

    def __init__(self, root: Path, grace: float) -> None:
        self.closing = False
        self._root, self._grace = root, grace
        self._tabs: dict[str, Tab] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._removals: set[asyncio.Task[None]] = set()

    def open(self) -> Tab:
        """A new tab; `expect` must be called when its page has been answered."""
        tab = Tab(self._root)
        self._tabs[tab.id] = tab
        return tab

    def expect(self, tab: Tab) -> None:
        """Remove the tab if its page does not connect in time."""
        if tab.id not in self._leaving:
            self._leave(tab, FIRST)

    def get(self, name: str) -> Tab:
        """An open tab.

        Raises:
            InputError: it has been closed, or never was.
        """
        if name not in self._tabs:
            raise InputError("The server has closed this page. Reload it.")
        return self._tabs[name]

    def start_upload(self, tab: Tab, upload: Upload) -> None:
        """Let a tab take files in.

        Raises:
            BusyError: this or another tab does already.
        """
        if any(other.upload for other in self._tabs.values()):
            upload.discard()
            raise BusyError("Another upload is going on. Wait until it has ended or cancel it.")
        tab.upload = upload

    async def events(self, tab: Tab) -> AsyncIterator[str]:
        """The stream to a tab's page. When it breaks off, the tab is removed after the grace."""
        timer = self._leaving.pop(tab.id, None)
        if timer:
            timer.cancel()
        try:
            yield "retry: 500\n\n"
            while not self.closing:
                yield await tab.next_event()
        finally:
            if tab.id in self._tabs:
                self._leave(tab)

    async def close(self) -> None:
        """Remove every tab."""
        self.closing = True
        for timer in self._leaving.values():
            timer.cancel()
        for tab in list(self._tabs.values()):
            self._remove(tab)
        await asyncio.gather(*self._removals)

    def _leave(self, tab: Tab, graces: int = 1) -> None:
        loop = asyncio.get_running_loop()
        self._leaving[tab.id] = loop.call_later(graces * self._grace, self._remove, tab)

    def _remove(self, tab: Tab) -> None:
        self._leaving.pop(tab.id, None)
        if self._tabs.pop(tab.id, None):
            task = asyncio.get_running_loop().create_task(tab.remove())
            self._removals.add(task)
            task.add_done_callback(self._removals.discard)

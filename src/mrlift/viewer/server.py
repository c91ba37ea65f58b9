"""The server's own life: a socket on loopback, a folder for everything temporary, a clean end."""

import asyncio
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from mrlift.errors import ConfigError
from mrlift.viewer.access import Guard
from mrlift.viewer.app import ASSETS, Settings, make_app

LOOPBACK = "127.0.0.1"


class Server:
    """A viewer on a port of loopback.

    Attributes:
        url: the address to open, with the token.
        folder: of everything temporary; readable by the user alone, removed at the end.

    Raises:
        ConfigError: the port is taken.
    """

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"Port {port} of {LOOPBACK} cannot be used: {error.strerror}. Choose another."
            ) from error
        self._socket.listen()  # a browser that is faster than `run` waits instead of failing
        self.folder = Path(tempfile.mkdtemp(prefix="mrlift-view-"))
        self.port = self._socket.getsockname()[1]
        token = secrets.token_urlsafe(24)
        self.url = f"http://{LOOPBACK}:{self.port}/?token={token}"
        app, self._tabs = make_app(self.folder, settings)
        config = uvicorn.Config(
            Guard(app, self.port, token),
            access_log=False,  # addresses hold the token
            log_level="error",
            log_config=None,
            lifespan="on",
            http="h11",
            loop="asyncio",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        self._server = _Uvicorn(config)

    def run(self) -> None:
        """Serve until `stop`; then cancel what runs and remove the folder."""
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        finally:
            self._socket.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """Ask `run` to end; from any thread or signal handler."""
        self._tabs.closing = True  # ends the streams of events, which else stay open
        self._server.should_exit = True

    def door(self) -> Path:
        """A file that leads a browser to `url`, for the user alone.

        The arguments of a browser's process can be read by every user of a machine; the token must
        not stand there.
        """
        file = self.folder / "open.html"
        file.touch(mode=0o600)
        file.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={self.url}">'
            f'<a href="{self.url}">mrlift view</a>\n',
            encoding="utf-8",
        )
        return file


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handlers: the command line has some."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def refuse_missing_page() -> None:
    """Say how to get the page where it has not been built.

    Raises:
        ConfigError: it has not.
    """
    if not (ASSETS / "index.html").is_file():
        raise ConfigError(
            "This copy of mrlift has no viewer page: in a clone run `make viewer` (needs npm)."
        )

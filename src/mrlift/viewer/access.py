"""Who may ask: this machine's user with the token, from the page itself, and nobody else.

A server on loopback can be reached by every program of the machine and, through the browser, by
every web page that the user has open. Against these: a random token, exchanged for a cookie that
scripts cannot read and other sites do not send; the Host header, which a rebound name of another
site would not match; Origin and Sec-Fetch-Site, which say which page asks.
"""

import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READING = ("GET", "HEAD")
HEADERS = {
    # NiiVue keeps its font as a data: address and puts styles on elements from scripts.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self' data:; font-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware: refuses with 403 and adds the security headers to every answer.

    Args:
        app: what is guarded.
        port: of the server.
        token: the word in the address that `mrlift view` prints.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._token = token
        self._cookie = f"mrlift-{port}"  # cookies do not keep the ports of one host apart
        self._secret = secrets.token_urlsafe(32)
        self._hosts = tuple(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entering = self._enters(scope)
        refusal = self._refusal(scope, entering)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if entering and not refusal:
                    headers["set-cookie"] = (
                        f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
                    )
            await send(message)

        app = PlainTextResponse(refusal, 403) if refusal else self._app
        await app(scope, receive, answer)

    def _enters(self, scope: Scope) -> bool:
        """Whether the page itself is asked for with the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and scope["method"] in READING and _same(given, self._token)

    def _refusal(self, scope: Scope, entering: bool) -> str:
        """Why a request is refused; empty if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self._hosts:
            return f"This server answers to {self._hosts[0]} only."
        if entering:
            return ""
        given = HTTPConnection(scope).cookies.get(self._cookie, "")
        if not _same(given, self._secret):
            return "Open the address that `mrlift view` printed; it holds a token."
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        changing = scope["method"] not in READING
        if foreign or (changing and headers.get("origin") != f"http://{host}"):
            return "This server answers to its own page only."
        return ""


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())

"""The server behind the page: every address, what it takes and what it answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from mrlift._version import __version__
from mrlift.errors import InputError, MrliftError, SeriesChoiceError
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import DEFAULTS, USUAL, find_weights, load_model, shipped_cards
from mrlift.io import list_series, load, read_headers
from mrlift.quality import ensemble
from mrlift.viewer.cases import IMAGES, Case, Result
from mrlift.viewer.files import CompressedFiles
from mrlift.viewer.tabs import Tab, Tabs
from mrlift.viewer.uploads import OversizeError, Upload
from mrlift.viewer.work import BusyError, Desk, Progress
from mrlift.volume import Volume

ASSETS = Path(__file__).parent / "assets"
BODY = 65_536  # bytes of a JSON request
STATUS = {BusyError: 409, OversizeError: 413, InputError: 422}


@dataclass(frozen=True)
class Given:
    """A series, and perhaps its result, that the command line names.

    Attributes:
        name: shown to the user.
        lr: the series.
        result: of it, or None.
    """

    name: str
    lr: Volume
    result: Result | None = None


@dataclass(frozen=True)
class Settings:
    """What `mrlift view` was asked.

    Attributes:
        given: shown in every tab.
        weights: a file of the user's own, offered beside the shipped ones.
        threads: of the engine; 0 for all cores.
        limit: bytes of an upload.
        grace: seconds for which a closed tab's work is kept.
    """

    given: Given | None = None
    weights: Path | None = None
    threads: int = 0
    limit: int = 2 * 10**9
    grace: float = 5.0


class Api:
    """The endpoints, over what the tabs hold."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.tabs = Tabs(root, settings.grace)
        self._desk = Desk()
        self._settings = settings
        self._cards = {card.name: card for card in shipped_cards()}
        self._weights: dict[str, str | Path] = {name: name for name in self._cards}
        if settings.weights is not None:
            card, _ = find_weights(settings.weights)
            self._cards[card.name], self._weights[card.name] = card, settings.weights

    async def open_tab(self, request: Request) -> Response:
        """A tab with the given series: what the page needs first."""
        tab = self.tabs.open()
        given = self._settings.given
        cases = {}
        try:
            if given is not None:
                case = Case(given.name, tab.new_folder("case-"), given.lr, given.result)
                cases[tab.add(case)] = await run_in_threadpool(case.facts)
        finally:
            self.tabs.expect(tab)
        models = [
            {
                "name": card.name,
                "scale": card.scale,
                "degradation": card.degradation,
                "default": card.name == DEFAULTS[USUAL].get(card.scale),
            }
            for card in self._cards.values()
        ]
        facts = {"tab": tab.id, "version": __version__, "models": models, "cases": cases}
        return JSONResponse(facts | {"limit": self._settings.limit}, 201)

    async def events(self, request: Request) -> Response:
        """Progress and the ends of jobs, as server-sent events."""
        return StreamingResponse(
            self.tabs.events(self._tab(request)), media_type="text/event-stream"
        )

    async def start_upload(self, request: Request) -> Response:
        """Announce a file or folder: its name and its bytes in all."""
        tab = self._tab(request)
        body = await _json(request, name=str, bytes=int)
        upload = Upload(body["name"], tab.new_folder("upload-") / "files", self._settings.limit)
        try:
            upload.claim(body["bytes"])
        except OversizeError:
            upload.discard()
            raise
        self.tabs.start_upload(tab, upload)
        return JSONResponse({}, 201)

    async def receive(self, request: Request) -> Response:
        """One file of the upload, as the body of the request."""
        tab = self._tab(request)
        upload = tab.upload
        if upload is None:
            raise InputError("No upload has been announced. Choose the file again.")
        try:
            await upload.receive(request.query_params.get("name", ""), request.stream())
        except (OversizeError, InputError, ClientDisconnect):
            if tab.upload is upload:  # else it was cancelled meanwhile, and another has begun
                tab.drop_upload()
            raise
        return Response(status_code=204)

    async def finish_upload(self, request: Request) -> Response:
        """Read what has arrived: a case, or the series among which the user is to choose."""
        tab = self._tab(request)
        body = await _json(request, series=str)
        upload = tab.upload
        if upload is None:
            raise InputError("No upload has been announced. Choose the file again.")
        async with tab.loading:
            try:
                lr = await run_in_threadpool(load, upload.path, series=body["series"] or None)
            except SeriesChoiceError:
                found = list_series(await run_in_threadpool(read_headers, upload.path))
                return JSONResponse({"series": [vars(s) for s in found]})
            except MrliftError as error:
                message = upload.in_words(error)
                tab.drop_upload()
                raise InputError(message) from error
            case = Case(upload.name, tab.new_folder("case-"), lr)
            facts = await run_in_threadpool(case.facts)
            tab.drop_upload()
        return JSONResponse({"case": tab.add(case), "facts": facts}, 201)

    async def cancel_upload(self, request: Request) -> Response:
        """Forget the upload."""
        self._tab(request).drop_upload()
        return Response(status_code=204)

    async def start_job(self, request: Request) -> Response:
        """Begin to upscale a case, or to compute the spread of its result."""
        tab = self._tab(request)
        body = await _json(request, case=str, work=str, model=str)
        number, case = body["case"], self._case(tab, body["case"])
        kinds = {"upscale": self._upscale, "spread": self._spread}
        for value, known in ((body["work"], kinds), (body["model"], self._weights)):
            if value not in known:
                raise InputError(f"Expected one of {', '.join(known)}, found {value!r}.")
        tab.work(
            self._desk, body["work"], partial(kinds[body["work"]], number, case, body["model"])
        )
        return JSONResponse({}, 202)

    async def cancel_job(self, request: Request) -> Response:
        """Ask the tab's job to end; an event says when it has."""
        tab = self._tab(request)
        if tab.job is not None:
            tab.job.cancel()
        return JSONResponse({}, 202)

    async def image(self, request: Request) -> Response:
        """An image of a case as NIfTI."""
        case, name = self._image(request)
        path = await run_in_threadpool(case.image, name)
        return FileResponse(path, media_type="application/octet-stream")

    async def colours(self, request: Request) -> Response:
        """The range of values that a map's colours cover."""
        case, name = self._image(request)
        return JSONResponse(await run_in_threadpool(case.colours, name))

    async def result(self, request: Request) -> Response:
        """The result as a file to keep."""
        case = self._case(self._tab(request), request.path_params["case"])
        if not case.result_file.exists():
            raise InputError("There is no result to download. Upscale the series first.")
        return FileResponse(case.result_file, filename=case.download_name())

    def _upscale(self, number: str, case: Case, model: str, step: Progress) -> dict[str, Any]:
        loaded = load_model(self._weights[model], threads=self._settings.threads)
        sr = upscale(case.lr, None, loaded, progress=step)
        case.set_result(Result.of(case.lr, sr, loaded.card, new=True))
        case.write_result()
        return {"case": number, "facts": case.facts()}

    def _spread(self, number: str, case: Case, _: str, step: Progress) -> dict[str, Any]:
        if case.result is None:
            raise InputError("There is no result yet. Upscale the series first.")
        loaded = load_model(self._weights[case.result.card.name], threads=self._settings.threads)
        case.spread = ensemble(case.lr, loaded, progress=step).spread
        return {"case": number, "facts": case.facts()}

    def _tab(self, request: Request) -> Tab:
        return self.tabs.get(request.path_params["tab"])

    def _case(self, tab: Tab, name: str) -> Case:
        if name not in tab.cases:
            raise InputError("This page has no such series any more. Reload it.")
        return tab.cases[name]

    def _image(self, request: Request) -> tuple[Case, str]:
        name = request.path_params["image"]
        if name not in IMAGES:
            raise InputError(f"Expected one of {', '.join(IMAGES)}.")
        return self._case(self._tab(request), request.path_params["case"]), name


async def _json(request: Request, **kinds: type) -> dict[str, Any]:
    """The body of a request: an object with exactly these keys and types.

    Raises:
        InputError: it is something else.
    """
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > BODY:
            raise OversizeError(f"Expected at most {BODY:,} bytes of JSON.")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise InputError("Expected a JSON object.") from error
    sound = isinstance(body, dict) and body.keys() == kinds.keys()
    if not sound or not all(type(body[key]) is kind for key, kind in kinds.items()):
        raise InputError(f"Expected a JSON object with {', '.join(kinds)}.")
    return dict(body)


async def _refuse(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status)


async def _unheard(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # whoever sent a file has gone


async def _index(request: Request) -> Response:
    return FileResponse(ASSETS / "index.html")


def make_app(root: Path, settings: Settings) -> tuple[Starlette, Tabs]:
    """The application without its `access.Guard`, and its tabs.

    Args:
        root: an existing folder of the user alone, for everything temporary.
        settings: of the server.
    """
    api = Api(root, settings)
    tab, case = "/api/tabs/{tab}", "/api/tabs/{tab}/cases/{case}"
    endpoints: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/", _index),
        ("POST", "/api/tabs", api.open_tab),
        ("GET", f"{tab}/events", api.events),
        ("POST", f"{tab}/upload", api.start_upload),
        ("PUT", f"{tab}/upload", api.receive),
        ("POST", f"{tab}/upload/done", api.finish_upload),
        ("DELETE", f"{tab}/upload", api.cancel_upload),
        ("POST", f"{tab}/job", api.start_job),
        ("DELETE", f"{tab}/job", api.cancel_job),
        ("GET", f"{case}/{{image}}.nii", api.image),
        ("GET", f"{case}/{{image}}.json", api.colours),
        ("GET", f"{case}/result", api.result),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await api.tabs.close()

    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=[method]) for method, path, endpoint in endpoints),
            Mount("/assets", CompressedFiles(directory=ASSETS / "assets", check_dir=False)),
        ],
        exception_handlers={MrliftError: _refuse, ClientDisconnect: _unheard},
        lifespan=lifespan,
    )
    return app, api.tabs

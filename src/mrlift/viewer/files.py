"""The files of the page, which are kept compressed."""

import gzip
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class CompressedFiles(StaticFiles):
    """Answers for NAME with the file NAME.gz, which every browser unpacks by itself."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file as it is, or unpacked for who does not accept gzip."""
        response = await super().get_response(f"{path}.gz", scope)
        response.headers["vary"] = "Accept-Encoding"
        if "gzip" in Headers(scope=scope).get("accept-encoding", ""):
            response.headers["content-encoding"] = "gzip"
            return response
        if isinstance(response, FileResponse):
            content = await run_in_threadpool(_unpacked, Path(response.path))
            response = Response(content, media_type=response.media_type)
            response.headers["vary"] = "Accept-Encoding"
        return response


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())

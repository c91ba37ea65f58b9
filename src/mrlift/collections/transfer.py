"""Fetching series from an S3 bucket: checked, resumable, and whole or not there.

A series is fetched into a hidden folder beside its place, each file under a temporary name, and
both are renamed when they are complete. What an interruption leaves in the hidden folder is used
by the next run.
"""

import asyncio
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mrlift.collections.index import IndexedSeries, need_extra
from mrlift.errors import InputError, OutputError

if TYPE_CHECKING:
    from obstore.store import S3Store

AWS = "https://s3.amazonaws.com"  # https://storage.googleapis.com holds `idc-open-data` too
SUMS = "MD5SUMS"  # read by `md5sum -c`
CONNECTIONS = 16
# s for obstore's own threads to let go of what they handed over: one that still does so while
# Python ends aborts the process, https://github.com/PyO3/pyo3-async-runtimes/issues/40.
SETTLE = 0.3
ATTEMPTS = 3  # of a file that arrives damaged; broken connections are retried below that
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Remote:
    """One file of a series in the bucket."""

    key: str
    name: str
    size: int
    md5: str  # "" where the ETag is none: an object uploaded in parts


def fetch(
    series: list[IndexedSeries],
    folder: Path,
    *,
    endpoint: str = AWS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Bring `series` to `folder`; those that are there already are not fetched again.

    Every file has the length that the bucket lists, and its MD5 where the bucket knows it. Each
    folder of a series gets a file MD5SUMS.

    Args:
        series: with their buckets, as the index names them.
        folder: of the collection; each series lands in its `folder` below.
        endpoint: address of the S3 service.
        progress: called with (done, total) in MB.

    Raises:
        ConfigError: the extra is not installed.
        InputError: the service cannot be reached, or does not hold what the index says.
        OutputError: there is no room, or `folder` cannot be written.
    """
    need_extra()
    total = sum(one.megabytes for one in series)
    missing = [one for one in series if not is_complete(folder / one.folder)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e6
        needed = sum(one.megabytes for one in missing)
        if needed > free:
            raise OutputError(
                f"The series take {needed:,.0f} MB, {folder} has room for {free:,.0f} MB. Free "
                "some space, or pass --patients."
            )
        try:
            asyncio.run(_fetch_all(missing, folder, endpoint, total - needed, progress))
        finally:
            time.sleep(SETTLE)
    except OSError as error:
        raise OutputError(
            f"Writing to {folder} failed: {error.strerror or error}. Run the same command again to "
            "go on."
        ) from error


def is_complete(folder: Path) -> bool:
    """Whether a series was fetched in full and still has all of its files."""
    sums = folder / SUMS
    if not sums.is_file():
        return False
    return all(
        (folder / line.split("  ", 1)[1]).is_file() for line in sums.read_text().splitlines()
    )


async def _fetch_all(
    missing: list[IndexedSeries],
    folder: Path,
    endpoint: str,
    done: float,
    progress: Callable[[int, int], None],
) -> None:
    """Bring series after series. Not in threads, which would hold up an interruption."""
    total = done + sum(one.megabytes for one in missing)
    progress(round(done), round(total))
    for one in missing:
        arrived = 0.0

        def count(size: int, one: IndexedSeries = one, done: float = done) -> None:
            nonlocal arrived
            arrived += size / 1e6
            progress(round(done + min(arrived, one.megabytes)), round(total))

        await _fetch_series(one, folder / one.folder, endpoint, count)
        done += one.megabytes
        progress(round(done), round(total))


async def _fetch_series(
    one: IndexedSeries, place: Path, endpoint: str, count: Callable[[int], None]
) -> None:
    part = place.with_name(f".{place.name}.part")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():  # files were lost since: those left are checked again
        shutil.rmtree(part, ignore_errors=True)
        place.rename(part)
    part.mkdir(exist_ok=True)
    store = _store(one.bucket, endpoint)
    remotes = await _listed(store, one, endpoint)
    if len(remotes) != one.images:
        raise InputError(
            f"Series {one.uid}: the index names {one.images} images, the bucket holds "
            f"{len(remotes)}. Try another version of idc-index-data."
        )
    gate = asyncio.Semaphore(CONNECTIONS)

    async def bring(remote: _Remote) -> str:
        async with gate:
            md5 = await _fetch_file(store, remote, part)
        count(remote.size)
        return f"{md5}  {remote.name}\n"

    sums = await asyncio.gather(*map(bring, remotes))
    (part / SUMS).write_text("".join(sums))
    part.rename(place)


def _store(bucket: str, endpoint: str) -> "S3Store":
    from obstore.store import S3Store

    return S3Store(
        bucket,
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(hours=1),  # the default of 30 s ends a large file on a slow line
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
    )


async def _listed(store: "S3Store", one: IndexedSeries, endpoint: str) -> list[_Remote]:
    import obstore
    from obstore.exceptions import BaseError

    try:
        pages = obstore.list(store, f"{one.prefix}/")
        metas = [meta async for page in pages for meta in page]
    except (BaseError, OSError) as error:
        raise InputError(
            f"{endpoint} does not list series {one.uid}: {_first_line(error)}. Check the network "
            "and run the same command again to go on."
        ) from error
    remotes = []
    for meta in sorted(metas, key=lambda meta: meta["path"]):
        name = meta["path"].removeprefix(f"{one.prefix}/")
        if not NAME.fullmatch(name):
            raise InputError(f"Series {one.uid}: the bucket holds an unsafe name, {name!r}.")
        tag = (meta["e_tag"] or "").strip('"')
        md5 = tag if MD5.fullmatch(tag) else ""
        remotes.append(_Remote(meta["path"], name, meta["size"], md5))
    return remotes


async def _fetch_file(store: "S3Store", remote: _Remote, folder: Path) -> str:
    """Bring one file and return its MD5."""
    import obstore
    from obstore.exceptions import BaseError

    path = folder / remote.name
    if path.is_file() and path.stat().st_size == remote.size:
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, _md5).hexdigest()
        if remote.md5 in ("", md5):
            return md5
    work = path.with_name(f"{path.name}.part")
    found = ""
    for _ in range(ATTEMPTS):
        digest, size = _md5(), 0
        try:
            chunks = await obstore.get_async(store, remote.key)
            with work.open("wb") as file:
                async for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        except (BaseError, FileNotFoundError, ConnectionError) as error:
            found = _first_line(error)
            continue
        md5 = digest.hexdigest()
        if size == remote.size and remote.md5 in ("", md5):
            work.replace(path)
            return md5
        found = f"{size} bytes with MD5 {md5}"
    raise InputError(
        f"{remote.key}: expected {remote.size} bytes{f' with MD5 {remote.md5}' * bool(remote.md5)},"
        f" found {found}, {ATTEMPTS} times. Run the same command again to go on."
    )


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].strip(" -:")

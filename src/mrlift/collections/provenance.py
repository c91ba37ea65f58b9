"""What is written beside the data: sources.toml, LICENCE.txt and split.toml."""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mrlift.collections.index import IndexedSeries, Source
from mrlift.errors import OutputError
from mrlift.io import replacing

SOURCES = "sources.toml"
LICENCE = "LICENCE.txt"
SPLIT = "split.toml"


def refuse_other_collection(folder: Path, found: Iterable[Source]) -> None:
    """Check before any work that `folder` holds nothing, or series of these sources.

    Raises:
        OutputError: it holds those of another collection, or a file that cannot be understood.
    """
    file = folder / SOURCES
    if not file.exists():
        return
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))["source"]
        names = {str(entry["name"]) for entry in entries}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{file} is no list of sources. Choose another folder.") from error
    if not names & {source.name for source in found}:
        raise OutputError(
            f"{folder} holds another collection: {'; '.join(sorted(names))}. Choose another folder."
        )


def write_sources(
    folder: Path,
    series: list[IndexedSeries],
    found: dict[tuple[str, str], Source],
    origin: str,
) -> None:
    """Write sources.toml and LICENCE.txt into `folder`.

    Args:
        folder: of the collection.
        series: all that are or will be in it.
        found: their sources by (DOI, licence).
        origin: a line on how they were found.

    Raises:
        OutputError: the files cannot be written.
    """
    pairs = [(f"{one.folder}/**", found[one.doi, one.licence]) for one in series]
    if len(found) == 1:
        pairs = [("**", source) for source in found.values()]
    tables = [
        f"[[source]]\nmatch = {_toml(match)}\nname = {_toml(source.name)}\n"
        f"licence = {_toml(source.licence)}\nurl = {_toml(source.url)}\n"
        for match, source in pairs
    ]
    _write(folder / SOURCES, "\n".join(tables))
    _write(folder / LICENCE, _licence(list(found.values()), origin))


def write_split(
    folder: Path, name: str, by: str, seed: int, parts: dict[str, list[tuple[PurePosixPath, int]]]
) -> None:
    """Write split.toml: for each part the folders of its series, with their number of slices.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = [f"name = {_toml(name)}", f"by = {_toml(by)}", f"seed = {seed}"]
    for part, members in parts.items():
        lines += ["", f"[{part}]", f"slices = {sum(slices for _, slices in members)}", "series = ["]
        lines += [f"  {_toml(str(path))}," for path, _ in members]
        lines += ["]"]
    _write(folder / SPLIT, "\n".join(lines) + "\n")


def _licence(found: list[Source], origin: str) -> str:
    parts = ["The images in this folder were published by others. Who uses them must keep to the\n"
             "licence and name the source:\n"]  # fmt: skip
    parts += [
        f"{source.name}\nLicence: {source.licence}{_deed(source.licence)}\n"
        f"Page: {source.url}\nPlease cite: {source.citation}\n"
        for source in found
    ]
    return "\n".join([*parts, origin, ""])


def _deed(licence: str) -> str:
    words = licence.split(" ")
    if words[0] == "CC" and len(words) == 3:
        return f" (https://creativecommons.org/licenses/{words[1].lower()}/{words[2]}/)"
    return ""


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(file: Path, text: str) -> None:
    with replacing(file, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")

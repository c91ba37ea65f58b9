"""The index of NCI's Imaging Data Commons, as its wheel `idc-index-data` ships it: no network.

Read with DuckDB: the client on top of this index, `idc-index`, adds pandas and pyarrow, a fixed
address and no check of what arrived.
"""

import hashlib
import html
import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from mrlift.errors import ConfigError, InputError

EXTRA = ("duckdb", "idc_index_data", "obstore")
URL = re.compile(r"s3://([a-z0-9.-]+)/([0-9a-f-]{36})/\*")
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class IndexedSeries:
    """One series of a collection, as an index or its own headers describe it."""

    patient: str
    uid: str
    folder: PurePosixPath  # below the folder of the collection
    description: str
    modality: str
    sop_class: str
    derived_by: str  # who computed it from the collection's images; "" for the images themselves
    images: int
    megabytes: float
    licence: str
    doi: str
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class Source:
    """Where series come from: what has to be said wherever they are used."""

    name: str
    licence: str
    doi: str
    citation: str

    @property
    def url(self) -> str:
        """The page of the collection."""
        return f"https://doi.org/{self.doi}"


def need_extra() -> None:
    """End with a clear message where the extra is not installed.

    Raises:
        ConfigError: it is not.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Public collections need {', '.join(missing)}. Install with: "
            "pip install 'mrlift[collections]'"
        )


def index_version() -> str:
    """The version of the index, whose first number is that of the data release."""
    need_extra()
    from importlib.metadata import version

    return version("idc-index-data")


def read_collection(name: str) -> list[IndexedSeries]:
    """Every series of a collection, of every modality, ordered by patient and UID.

    Raises:
        ConfigError: the extra is not installed.
        InputError: the index has no such collection.
    """
    need_extra()
    wanted = name.lower().replace("-", "_")
    rows = _query(
        "idc_index", "where collection_id = ? order by PatientID, SeriesInstanceUID", wanted
    )
    if not rows:
        known = [str(row["collection_id"]) for row in _query("collections_index")]
        near = get_close_matches(wanted, known, 5, 0.4)
        raise InputError(
            f"The Imaging Data Commons (index {index_version()}) has no collection {wanted!r}. "
            f"{'Near: ' + ', '.join(near) if near else f'It has {len(known)} others'}."
        )
    return [_series(row) for row in rows]


def sources(series: list[IndexedSeries]) -> dict[tuple[str, str], Source]:
    """The sources of `series` by (DOI, licence), with names and citations from the index."""
    about = {
        str(entry["source_doi"]).lower(): entry
        for row in _query("collections_index")
        for entry in row["sources"] or ()
    }
    found = {}
    for doi, licence in sorted({(s.doi, s.licence) for s in series}):
        entry = about.get(doi.lower(), {})
        title = _plain_text(entry.get("source_title") or "") or "Untitled source"
        citation = _plain_text(entry.get("citation") or "") or f"https://doi.org/{doi}"
        found[doi, licence] = Source(f"{title}, doi {doi}", licence, doi, citation)
    return found


def folder_name(text: str) -> str:
    """`text` as one name of a folder that cannot lead elsewhere; different texts stay different."""
    if PLAIN.fullmatch(text):
        return text
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:60]
    return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _series(row: dict[str, Any]) -> IndexedSeries:
    url = URL.fullmatch(row["series_aws_url"] or "")
    if url is None:
        raise InputError(
            f"Series {row['SeriesInstanceUID']}: the index names no address that can be fetched "
            f"from ({row['series_aws_url']!r}). Try another version of idc-index-data."
        )
    patient, uid = str(row["PatientID"]), str(row["SeriesInstanceUID"])
    return IndexedSeries(
        patient=patient,
        uid=uid,
        folder=PurePosixPath(folder_name(patient), folder_name(uid)),
        description=row["SeriesDescription"] or "",
        modality=row["Modality"] or "",
        sop_class=row["SOPClassUID"] or "",
        derived_by=row["analysis_result_id"] or "",
        images=int(row["instanceCount"]),
        megabytes=float(row["series_size_MB"]),
        licence=row["license_short_name"] or "not stated",
        doi=row["source_DOI"] or "",
        bucket=url[1],
        prefix=url[2],
    )


def _query(table: str, clause: str = "", *parameters: str) -> list[dict[str, Any]]:
    import duckdb
    import idc_index_data

    file = Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH)).with_name(f"{table}.parquet")
    with duckdb.connect() as connection:
        answer = connection.execute(
            f"select * from read_parquet(?) {clause}", [str(file), *parameters]
        )
        names = [column[0] for column in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _plain_text(marked_up: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", marked_up)).split())

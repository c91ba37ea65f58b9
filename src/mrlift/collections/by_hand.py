"""Collections whose access is limited: the user fetches them, mrlift reads what is there."""

from pathlib import Path, PurePosixPath

from mrlift.collections.index import IndexedSeries, Source
from mrlift.errors import InputError
from mrlift.io import list_series, read_headers

# Limited since January 2022, when TCIA changed its policy on images that show a face (release notes
# of the Imaging Data Commons, version 6).
BY_HAND = {
    "brain-tumor-progression": Source(
        "Brain-Tumor-Progression, doi 10.7937/K9/TCIA.2018.15quzvnb",
        "as stated at https://doi.org/10.7937/K9/TCIA.2018.15quzvnb",
        "10.7937/K9/TCIA.2018.15quzvnb",
        "Schmainda KM, Prah M (2018). Data from Brain-Tumor-Progression. The Cancer Imaging "
        "Archive. https://doi.org/10.7937/K9/TCIA.2018.15quzvnb",
    )
}


def read_by_hand(name: str, folder: Path) -> list[IndexedSeries]:
    """The series of a collection that the user has put under `folder`, one folder per series.

    Raises:
        InputError: there are none, with how to get them; or two series share a folder.
    """
    source = BY_HAND[name]
    try:
        headers = read_headers(folder)
    except InputError as error:
        if folder.is_dir() and any(folder.rglob("*.dcm")):
            raise
        raise InputError(_how_to(name, source, folder)) from error
    of = {str(h.SeriesInstanceUID): h for h in headers}
    places: dict[str, set[Path]] = {uid: set() for uid in of}
    megabytes = dict.fromkeys(of, 0.0)
    for header in headers:
        file, uid = Path(str(header.filename)), str(header.SeriesInstanceUID)
        places[uid].add(file.parent)
        megabytes[uid] += file.stat().st_size / 1e6
    shared = [p for p in set().union(*places.values()) if sum(p in v for v in places.values()) > 1]
    if shared or any(len(p) > 1 for p in places.values()):
        raise InputError(
            f"Expected each series in one folder of its own under {folder}, found "
            f"{f'several series in {min(shared)}' if shared else 'a series in several folders'}. "
            "The NBIA Data Retriever arranges them so; or sort the files by SeriesInstanceUID."
        )
    return [
        IndexedSeries(
            patient=str(of[s.uid].get("PatientID", "")),
            uid=s.uid,
            folder=PurePosixPath(places[s.uid].pop().relative_to(folder).as_posix()),
            description=s.description,
            modality=s.modality,
            sop_class=str(of[s.uid].get("SOPClassUID", "")),
            derived_by="",
            images=s.instances,
            megabytes=megabytes[s.uid],
            licence=source.licence,
            doi=source.doi,
        )
        for s in list_series(headers)
    ]


def _how_to(name: str, source: Source, folder: Path) -> str:
    return (
        f"{name} cannot be downloaded by a program: The Cancer Imaging Archive limits access to "
        "it. Get it by hand:\n"
        f"  1. Open {source.url}, read its terms, and ask for access as the page says.\n"
        "  2. Download its manifest (a .tcia file), open that with the NBIA Data Retriever, and "
        "choose\n"
        f"     {folder.absolute()}\n"
        "     as the destination: one folder with .dcm files for each series, at any depth.\n"
        f"  3. Run the same command again: it checks what is there and writes {folder.name}/"
        "sources.toml.\n"
        "Open collections that can take its place: remind, vestibular-schwannoma-seg."
    )

"""Everything that is drawn from results: files beside them, and blocks in pages of text.

A block is what stands between two lines of a Markdown file,

    <!-- bench: NAME -->
    <!-- end bench -->

and holds the table or the picture of that name, or nothing as long as there is none.
"""

import os
import re
from pathlib import Path

from mrlift.benchmark.claims import claims
from mrlift.benchmark.figures import drawable, pictures
from mrlift.benchmark.report import html
from mrlift.benchmark.results import Results, load_results
from mrlift.benchmark.tables import Table, tables
from mrlift.errors import InputError
from mrlift.io import replacing

BLOCK = re.compile(r"<!-- bench: ([\w-]+) -->\n.*?<!-- end bench -->", re.DOTALL)
SEEN = {
    "quality-time": "PSNR gain over bicubic against milliseconds per slice, every network",
    "curves": "Validation gain over bicubic against HR pixels seen, every network",
    "figure3": "Two test slices by every method, with errors",
}


def all_tables(results: Results) -> dict[str, Table]:
    """The tables, and that of the claims if there is one."""
    made = tables(results)
    tested = claims(results)
    return made | ({"claims": tested} if tested.rows else {})


def render(folder: Path, images: Path) -> list[Path]:
    """Write NAME.md and NAME.csv of every table and report.html into `folder`.

    Pictures go to the folder `images`. Returns what was written.

    Raises:
        InputError: no results, damaged ones, or no matplotlib.
        OutputError: a file cannot be written.
    """
    results = load_results(folder)
    made, drawn = all_tables(results), pictures(results)
    files: dict[Path, str | bytes] = {}
    for name, table in made.items():
        files[folder / f"{name}.md"] = f"{table.caption}\n\n{table.markdown()}"
        files[folder / f"{name}.csv"] = table.csv()
    for name, picture in drawn.items():
        files[images / f"{name}.png"] = picture.png
        files[images / f"{name}.svg"] = picture.svg
    files[folder / "report.html"] = html(results, made, drawn)
    for file, content in files.items():
        with replacing(file, overwrite=True) as part:
            if isinstance(content, bytes):
                part.write_bytes(content)
            else:
                part.write_text(content, encoding="utf-8")
    return list(files)


def fill(folder: Path, images: Path, pages: list[Path]) -> list[Path]:
    """Bring the blocks of `pages` up to date; returns those that changed.

    Raises:
        InputError: no results, or a page without a block.
    """
    results = load_results(folder)
    changed = []
    for page in pages:
        old = _text(page)
        new = filled(old, results, Path(os.path.relpath(images, page.parent)))
        if new != old:
            with replacing(page, overwrite=True) as part:
                part.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def filled(page: str, results: Results, images: Path) -> str:
    """A page with its blocks as the results have them; `images` is the way to pictures."""
    made = all_tables(results)
    blocks = {name: f"{table.caption}\n\n{table.markdown()}" for name, table in made.items()}
    for name in drawable(results):
        blocks[name] = f"![{SEEN[name]}]({(images / name).as_posix()}.png)\n"

    def block(found: re.Match[str]) -> str:
        return f"<!-- bench: {found[1]} -->\n{blocks.get(found[1], '')}<!-- end bench -->"

    return BLOCK.sub(block, page)


def _text(page: Path) -> str:
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {page}: {error.strerror}.") from error
    if not BLOCK.search(text):
        raise InputError(
            f"Expected a block in {page} between <!-- bench: NAME --> and <!-- end bench -->."
        )
    return text

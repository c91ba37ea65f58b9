"""The report: one page that needs nothing else, pictures first. No patient data unless asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from mrlift._version import __version__
from mrlift.inference.zoo import Model
from mrlift.io import SeriesSource, replacing
from mrlift.quality.checking import Check
from mrlift.quality.pictures import View, data_url, grey, overlay, ramp, view_of
from mrlift.quality.spread import ensemble
from mrlift.quality.thresholds import thresholds
from mrlift.resampling import bicubic_up
from mrlift.volume import Volume

CLOSE = 0.34  # side of the enlarged part, of the slice
TOP = 99.9  # per cent of values that the colours of a map reach
WHITE = 99.7  # per cent of the slice's values that are no brighter than white

PATIENT = (
    ("PatientName", "patient"),
    ("PatientID", "patient ID"),
    ("PatientBirthDate", "born"),
    ("StudyDate", "study of"),
    ("SeriesDescription", "series"),
)


@dataclass(frozen=True)
class Shown:
    """A slice of the stack that the report shows, counted from 0, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Spread:
    """The spread of the shown slices: (n, H, W) in the units of the image."""

    planes: NDArray[np.number]
    whole: bool  # whether it is that of the whole series' ensemble


def shown_slices(checked: Check, lr: Volume) -> tuple[Shown, ...]:
    """The slice with most tissue, and that with the most unusual spot."""
    stack = lr.slices()
    level = 0.1 * checked.consistency.unit
    fullest = int(np.argmax([np.count_nonzero(s > level) for s in stack]))
    voxel = checked.consistency.structure.voxel
    numbers = np.broadcast_to(np.arange(len(stack))[:, None, None], stack.shape)
    oddest = int(lr.voxels_from_slices(numbers)[voxel])
    most, odd = "most tissue", f"the most unusual spot, LR voxel {voxel}"
    if oddest == fullest:
        return (Shown(fullest, f"{most}, and {odd}"),)
    return Shown(fullest, most), Shown(oddest, odd)


def spread_of(lr: Volume, model: Model, shown: Sequence[Shown]) -> Spread:
    """The spread of the shown slices alone: eight times their work, not that of the series."""
    stack = np.moveaxis(lr.slices()[[s.index for s in shown]], 0, 2)
    few = Volume(np.ascontiguousarray(stack), np.eye(4))
    return Spread(ensemble(few, model).spread.slices(), whole=False)


def write_report(
    path: Path,
    checked: Check,
    lr: Volume,
    sr: Volume,
    *,
    spread: Spread | None = None,
    names: tuple[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page.

    Args:
        path: where.
        checked: the tests of `sr` against `lr`.
        lr: the input.
        sr: the result.
        spread: of the slices that `shown_slices` names, if it is known.
        names: of the two files, for a report that may name them and the patient; None names nobody.
        overwrite: replace what is there.

    Raises:
        OutputError: `path` exists or cannot be written.
    """
    text = page(checked, lr, sr, spread, names)
    with replacing(path, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8")


def page(
    checked: Check,
    lr: Volume,
    sr: Volume,
    spread: Spread | None = None,
    names: tuple[str, str] | None = None,
) -> str:
    """The report as HTML; arguments as for `write_report`."""
    shown = shown_slices(checked, lr)
    count = len(checked.findings)
    calm = "Nothing speaks against this result"
    loud = f"{count} reason{'s' if count > 1 else ''} to look closer"
    template = Template((files("mrlift.quality") / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"Quality of a result of {escape(checked.card.name)}",
        verdict=loud if count else calm,
        state="warn" if count else "pass",
        facts=_facts(checked, lr, sr),
        identity=_identity(lr, names),
        warnings=_warnings(checked),
        pictures="".join(_figure(checked, lr, sr, spread, shown, k) for k in range(len(shown))),
        rows=_rows(checked),
        spread=_spread_text(checked, spread),
        degraded={"kspace": "its k-space cut", "bicubic": "bicubic reduction"}[
            checked.card.degradation
        ],
        source=_source(),
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
    )


def _facts(checked: Check, lr: Volume, sr: Volume) -> str:
    def size(volume: Volume) -> str:
        axes = volume.in_plane_axes
        matrix = " x ".join(str(volume.voxels.shape[a]) for a in axes)
        steps = " x ".join(f"{volume.spacing[a]:.3g}" for a in axes)
        return f"{matrix} voxels of {steps} mm"

    facts = (
        ("input (LR)", f"{size(lr)}, {lr.slice_count} slices"),
        ("result (SR)", size(sr)),
        ("weights", f"{checked.card.name}, x{checked.card.scale}"),
    )
    return "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)


def _identity(lr: Volume, names: tuple[str, str] | None) -> str:
    if names is None:
        return ""
    facts = list(zip(("input file", "result file"), names, strict=True))
    if isinstance(lr.source, SeriesSource):
        header = lr.source.instances[0]
        facts += [(word, str(header.get(name, ""))) for name, word in PATIENT]
    return "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts if v)


def _warnings(checked: Check) -> str:
    items = "".join(f"<li><b>{escape(f.kind)}</b> {escape(f.text)}</li>" for f in checked.findings)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _rows(checked: Check) -> str:
    return "".join(
        f"<tr><th>{escape(r.name)}<small>{escape(r.meaning)}</small></th><td>{escape(r.found)}</td>"
        f"<td>{escape(r.usual)}</td>"
        f'<td class="{"pass" if r.passed else "warn"}">{"usual" if r.passed else "warning"}</td>'
        "</tr>"
        for r in checked.rows()
    )


def _figure(
    checked: Check,
    lr: Volume,
    sr: Volume,
    spread: Spread | None,
    shown: Sequence[Shown],
    number: int,
) -> str:
    """One slice: LR, bicubic and SR whole and enlarged, then the maps."""
    view, chosen = view_of(lr), shown[number]
    low = lr.slices()[chosen.index]
    high = sr.slices()[chosen.index]
    card, found = checked.card, checked.consistency
    bicubic = bicubic_up(low.astype(np.float32), card.scale, card.grid)
    top = float(np.percentile(low, WHITE)) or 1.0
    trio = [view.of(p) for p in (low, bicubic, high)]
    rows, columns = (n / s for n, s in zip(trio[0].shape, (1, 1), strict=True))
    shape = f"{columns * view.spacing[1]:.4f} / {rows * view.spacing[0]:.4f}"
    titles = ("LR, as it came", "bicubic interpolation", f"SR, {card.name}")
    whole = [
        _picture(data_url(grey(p, 0, top)), shape, t) for p, t in zip(trio, titles, strict=True)
    ]
    box = _close_up(view, lr, found.structure.voxel, chosen, len(shown) - 1 == number)
    close = [
        _picture(data_url(grey(_cut(p, box), 0, top)), shape, f"{t}, enlarged")
        for p, t in zip(trio, ("LR", "bicubic", "SR"), strict=True)
    ]
    maps = [_map(found.residual.slices()[chosen.index], trio[0], view, shape, found.unit, top)]
    if spread is not None:
        maps.append(
            _map(spread.planes[number], trio[2], view, shape, found.unit, top, signed=False)
        )
    sides = f"{view.sides[0]} left, {view.sides[1]} right, {view.sides[2]} up"
    return (
        f"<section><h2>Slice {chosen.index + 1} of {lr.slice_count}"
        f"<small>{escape(chosen.reason)}; {sides}</small></h2>"
        f'<div class="trio">{"".join(whole)}{"".join(close)}</div>'
        f'<div class="maps">{"".join(maps)}</div></section>'
    )


def _picture(url: str, shape: str, title: str) -> str:
    kind = "sharp" if title.startswith("LR") else ""
    return (
        f'<figure><img class="{kind}" style="aspect-ratio:{shape}" src="{url}" '
        f'alt="{escape(title)}"><figcaption>{escape(title)}</figcaption></figure>'
    )


def _map(
    values: NDArray[np.number],
    ground: NDArray[np.floating],
    view: View,
    shape: str,
    unit: float,
    top: float,
    *,
    signed: bool = True,
) -> str:
    """A map over its slice, with its colours and their values."""
    plane = view.of(values)
    limit = float(np.percentile(np.abs(plane), TOP)) or unit * 1e-6
    url = data_url(overlay(grey(ground, 0, top), plane, limit, signed=signed))
    title = "Residual: SR reduced again, minus LR" if signed else "Spread of eight flips of SR"
    bar = data_url(ramp(signed=signed)[None])
    ends = [-limit, 0.0, limit] if signed else [0.0, limit / 2, limit]
    ticks = "".join(f"<span>{'+' if signed and v > 0 else ''}{v:.3g}</span>" for v in ends)
    return (
        f'<figure><img style="aspect-ratio:{shape}" src="{url}" alt="{title}">'
        f'<figcaption>{title}<img class="bar" src="{bar}" alt="colours of the map">'
        f'<span class="ticks">{ticks}</span>'
        f"<small>in units of the image; {limit:.3g} is {limit / unit:.2%} of its scale</small>"
        "</figcaption></figure>"
    )


def _close_up(
    view: View, lr: Volume, voxel: tuple[int, ...], chosen: Shown, odd: bool
) -> tuple[float, float]:
    """Where the enlarged part begins, in shares of the picture: by the odd spot, or the middle."""
    if not odd:
        return (1 - CLOSE) / 2, (1 - CLOSE) / 2
    mark = np.zeros(lr.slices().shape[1:])
    mark[tuple(voxel[a] for a in lr.in_plane_axes)] = 1
    shown = view.of(mark)
    at = np.unravel_index(int(np.argmax(shown)), shown.shape)
    row, column = (
        float(np.clip(k / n - CLOSE / 2, 0, 1 - CLOSE))
        for k, n in zip(at, shown.shape, strict=True)
    )
    return row, column


def _cut(picture: NDArray[np.floating], start: tuple[float, float]) -> NDArray[np.floating]:
    rows, columns = (
        slice(round(s * n), round((s + CLOSE) * n))
        for s, n in zip(start, picture.shape, strict=True)
    )
    return picture[rows, columns]


def _spread_text(checked: Check, spread: Spread | None) -> str:
    if spread is None:
        return "The spread was not computed."
    name, unit = checked.card.name, checked.consistency.unit
    limits = thresholds()
    k68, k95 = (limits.spread_factor(name, p) for p in (68, 95))
    where = "the whole series" if spread.whole else "the slices shown"
    middle = float(np.median(spread.planes[spread.planes > 0])) if spread.planes.any() else 0.0
    return (
        f"Over {where} the median spread is {middle:.3g} ({middle / unit:.2%} of the scale). On "
        f"validation patients the true error lay within {k68:.1f} times the spread in 68 % of the "
        f"tissue, and within {k95:.1f} times in 95 %. The spread says where the network is unsure; "
        "an error that it makes in all eight does not show."
    )


def _source() -> str:
    source = thresholds().source
    return escape(str(source.get("summary", "")))

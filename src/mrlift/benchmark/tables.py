"""Results as tables: each a list of columns and rows of text, for Markdown, CSV and HTML."""

import csv
import io
from dataclasses import dataclass

import numpy as np

from mrlift.benchmark.published import (
    NAMES,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    published_gain,
    summary_gain,
)
from mrlift.benchmark.results import Mean, Results, is_ablation, mean

SCALES = (2, 3, 4)
NONE = "-"


@dataclass(frozen=True)
class Table:
    """A caption, and text cells. The first column names the rows.

    Attributes:
        best: numbers of the rows in bold.
        words: whether the cells are words, not numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[int] = frozenset()
    words: bool = False

    def markdown(self) -> str:
        """Words on the left, numbers on the right."""
        rule = "|---|" + ("---|" if self.words else "---:|") * (len(self.columns) - 1)
        lines = [_line(self.columns), rule]
        for number, row in enumerate(self.rows):
            cells = tuple(f"**{c}**" for c in row) if number in self.best else row
            lines.append(_line(cells))
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """With the columns' names first."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


def tables(results: Results) -> dict[str, Table]:
    """All that the results are enough for, by name."""
    made: dict[str, Table] = {}
    for scale in SCALES:
        if results.methods(scale):
            made[f"table2-x{scale}"] = table_2(results, scale)
            made[f"metrics-x{scale}"] = metrics(results, scale)
    if any(is_ablation(m) for m, _ in results.quality):
        made["table1"] = table_1(results)
    if results.times:
        made["table3"] = table_3(results)
    if results.quality:
        made["summary"] = summary(results)
        made["training"] = training(results)
    return made


def table_2(results: Results, scale: int) -> Table:
    """The paper's Table 2 at one scale."""
    rows = []
    methods = results.methods(scale)
    for method in methods:
        quality = results.quality[method, scale]
        gain = results.gain(method, scale)
        theirs = TABLE_2[scale].get(method)
        rows.append(
            (
                name(method),
                f"{quality.parameters:,}" if quality.parameters else NONE,
                _spread(mean(quality.values("psnr")), ".2f"),
                _interval(mean(gain)) if method != "bicubic" else "0",
                _interval(mean(quality.by_patient(gain))) if method != "bicubic" else "0",
                f"{quality.values('ssim').mean():.4f}",
                f"{theirs[0]:.2f}" if theirs else NONE,
                _signed(published_gain(method, scale)) if method != "bicubic" else "0",
                _signed(summary_gain(scale)) if method == "mrl" else NONE,
                f"{theirs[1]:.4f}" if theirs and theirs[1] else NONE,
            )
        )
    columns = (
        f"x{scale}",
        "parameters",
        "PSNR dB (SD)",
        "gain over bicubic [95 %], slices",
        "gain [95 %], patients",
        "SSIM",
        "paper, Table 2: PSNR",
        "paper: gain",
        "paper's summary: gain",
        "paper: SSIM",
    )
    caption = f"Table 2, x{scale}: quality on {_extent(results, scale)}."
    return Table(caption, columns, tuple(rows), frozenset({len(rows) - 1}))


def table_1(results: Results) -> Table:
    """The paper's Table 1, x2."""
    rows = []
    known = [m for m in TABLE_1 if (m, 2) in results.quality]
    for number, method in enumerate(known):
        quality = results.quality[method, 2]
        gain = results.gain(method, 2)
        step = slices = patients = NONE
        if number:
            step = name(known[number - 1]).removeprefix("MRL, ").removesuffix(" upsampling")
            difference = results.gain(method, 2, over=known[number - 1])
            slices = _interval(mean(difference), ".3f")
            patients = _interval(mean(quality.by_patient(difference)), ".3f")
        psnr, ssim = TABLE_1[method]
        rows.append(
            (
                {"mrl": "multi-resolution", "mrl-double": "double", "mrl-single": "single"}[method],
                f"{quality.values('psnr').mean():.2f}",
                _signed(float(gain.mean())),
                f"{step}: {slices}" if number else NONE,
                f"{step}: {patients}" if number else NONE,
                f"{quality.values('ssim').mean():.4f}",
                f"{psnr:.2f}",
                f"{ssim:.4f}",
            )
        )
    columns = (
        "upsampling",
        "PSNR dB",
        "gain over bicubic",
        "above the one before [95 %], slices",
        "the same, patients",
        "SSIM",
        "paper: PSNR",
        "paper: SSIM",
    )
    return Table(f"Table 1, x2: upsampling, on {_extent(results, 2)}.", columns, tuple(rows))


def table_3(results: Results) -> Table:
    """The paper's Table 3: all networks in PyTorch on a CPU, and mrlift's engine."""
    keys = sorted(results.times)
    methods = list(dict.fromkeys(m for key in keys for m in results.times[key]["networks"]))
    rows = []
    for method in methods:
        cells = [name(method)]
        for key in keys:
            entry = results.times[key]["networks"].get(method)
            work = f" ({entry['multiply_adds'] / 1e9:.3g})" if entry else ""
            cells.append(f"{entry['seconds']:.3f}{work}" if entry else NONE)
        cells += [f"{TABLE_3[s][method]:.2f}" if method in TABLE_3[s] else NONE for s in SCALES]
        rows.append(tuple(cells))
    columns = ["network"]
    columns += [f"x{scale}, HR {size}" for scale, size in keys]
    columns += [f"paper, x{scale}: s" for scale in SCALES]
    one = next(iter(results.times.values()))
    caption = (
        f"Table 3: seconds per slice (10^9 multiply-adds), {_count(one['threads'], 'thread')} of "
        f"{one['machine']}; medians of {one['rounds']} runs in turn."
    )
    return Table(caption, tuple(columns), tuple(rows))


def metrics(results: Results, scale: int) -> Table:
    """PSNR by other conventions."""
    figures = ("psnr", "psnr_inner", "psnr_8bit", "psnr_8bit_inner")
    rows = []
    for method in results.methods(scale):
        values = [results.quality[method, scale].values(f).mean() for f in figures]
        gains = [results.gain(method, scale, figure=f).mean() for f in figures]
        rows.append((name(method), *(f"{v:.2f}" for v in values), *map(_signed, gains)))
    columns = (
        f"x{scale}",
        "series maximum",
        f"without {scale} px",
        "255, 8 bit",
        f"8 bit, without {scale} px",
        "gain: series maximum",
        "gain: without border",
        "gain: 8 bit",
        "gain: 8 bit, without border",
    )
    return Table(f"PSNR in dB by four conventions, x{scale}.", columns, tuple(rows))


def summary(results: Results) -> Table:
    """One line a network: gains at all scales, and time where it was measured."""
    scales = [s for s in SCALES if results.methods(s)]
    order = [m for m in reversed(results.methods(scales[0])) if m != "bicubic"]
    size = min((hr for s, hr in results.times if s == scales[0]), default=0)
    times = results.times.get((scales[0], size), {"networks": {}})["networks"]
    rows = []
    for method in order:
        cells = [name(method)]
        for scale in scales:
            here = (method, scale) in results.quality
            cells.append(_interval(mean(results.gain(method, scale))) if here else NONE)
            cells.append(_signed(published_gain(method, scale)))
        cells.append(f"{times[method]['seconds'] * 1e3:.0f}" if method in times else NONE)
        rows.append(tuple(cells))
    columns = ["network"]
    for scale in scales:
        columns += [f"x{scale}: gain over bicubic, dB [95 %]", "paper"]
    columns.append(f"ms per {size}x{size} slice, x{scales[0]}" if size else "ms")
    caption = f"Gain over bicubic interpolation on {_extent(results, scales[0])}."
    return Table(caption, tuple(columns), tuple(rows))


def training(results: Results) -> Table:
    """How each network was trained, and what it might still gain."""
    rows = []
    for (method, scale), quality in sorted(results.quality.items(), key=lambda kv: kv[0][::-1]):
        record = quality.records[0]
        if "recipe" not in record:
            continue
        curve = record["curve"]
        late = next(p for p in reversed(curve) if p["hr_pixels"] <= 0.75 * curve[-1]["hr_pixels"])
        started = " + ".join(
            f"{s['lr_pixels'] * 4 / 1e6:.3g}" for s in record["start"]
        )  # from x2 alone
        rates = ", ".join(
            f"{r['rate']:g}: " + (NONE if r["gain"] is None else f"{r['gain']:+.2f}")
            for r in record["rates"]
        )
        rows.append(
            (
                name(method),
                f"x{scale}",
                f"{curve[-1]['hr_pixels'] / 1e6:.3g}" + (f", after {started}" if started else ""),
                f"{record['recipe']['training']['learning_rate']:g}",
                rates,
                f"{curve[-1]['gain']:+.2f}",
                f"{curve[-1]['gain'] - late['gain']:+.2f}",
                str(len(quality.records)),
            )
        )
    columns = (
        "network",
        "scale",
        "million HR pixels",
        "learning rate",
        "rates tried at x2: validation gain, dB",
        "validation gain, dB",
        "of it in the last quarter",
        "seeds",
    )
    return Table("How the networks were trained.", columns, tuple(rows), words=True)


def name(method: str) -> str:
    """As the tables call it."""
    return NAMES.get(method, method)


def _extent(results: Results, scale: int) -> str:
    quality = results.quality["bicubic", scale]
    series = len(quality.records[0]["test"])
    patients = len(np.unique(quality.patients))
    return (
        f"{_count(len(quality.patients), 'slice')} of {series} series of "
        f"{_count(patients, 'patient')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"


def _spread(value: Mean, digits: str) -> str:
    return f"{value.value:{digits}} ({value.deviation:.1f})"


def _interval(value: Mean, digits: str = ".2f") -> str:
    return f"{value.value:+{digits}} [{value.low:+{digits}}, {value.high:+{digits}}]"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"

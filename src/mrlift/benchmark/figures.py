"""Results as pictures: quality against time, learning curves, and the paper's Figure 3.

Each is drawn once and saved as PNG (white ground) and as SVG, whose lines and letters take the
colour of the text around them, so that it suits light and dark pages alike.
"""

import base64
import io
import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrlift.benchmark.results import Results, is_ablation, mean
from mrlift.benchmark.tables import SCALES, name
from mrlift.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

INK = "#123457"  # stands for the colour of the text in SVG
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# Okabe and Ito's colours, which most kinds of colour vision tell apart; the paper's network is red.
COLOURS = {
    "mrl": "#d55e00",
    "mrlift": "#d55e00",
    "mrl-double": "#e69f00",
    "mrl-single": "#b8a000",
    "srcnn": "#56b4e9",
    "espcn": "#0072b2",
    "fsrcnn": "#009e73",
    "de-cnn": "#cc79a7",
    "fscwn": "#8b6bb1",
    "span": "#7f7f7f",
    "edsr": "#a0522d",
}
OTHER = "#606060"
ERROR = 0.1  # of the series' maximum: white in the maps of errors


@dataclass(frozen=True)
class Picture:
    """One figure in both formats, and what it shows in words."""

    png: bytes
    svg: str
    caption: str


def pictures(results: Results) -> dict[str, Picture]:
    """All that the results are enough for, by name.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError("Pictures need matplotlib: `pip install mrlift[bench]`.") from error
    made: dict[str, Picture] = {}
    with mpl.rc_context(STYLE):
        timed = [s for s in SCALES if results.methods(s) and any(t == s for t, _ in results.times)]
        if timed:
            made["quality-time"] = quality_time(results, timed)
        trained = [s for s in SCALES if len(results.methods(s)) > 1]
        if trained:
            made["curves"] = curves(results, trained)
        if results.figure:
            made["figure3"] = figure_3(results.figure)
    return made


def quality_time(results: Results, scales: list[int]) -> Picture:
    """Gain over bicubic on the y axis, milliseconds per slice on the logarithmic x axis."""
    drawing = _drawing(4.6 * len(scales) + 0.6, 4.4)
    panels = drawing.subplots(1, len(scales), squeeze=False)[0]
    size = min(hr for s, hr in results.times if s == scales[0])
    for axes, scale in zip(panels, scales, strict=True):
        record = results.times[scale, size]
        points = []
        for method, entry in record["networks"].items():
            quality = "mrl" if method == "mrlift" else method
            if (quality, scale) not in results.quality:
                continue
            gain = mean(results.gain(quality, scale))
            points.append((entry["seconds"] * 1e3, gain, method))
        _points(axes, points)
        axes.set(title=f"x{scale}", xlabel=f"ms per slice of {size}x{size}, one after another")
        axes.grid(alpha=0.2, which="both")
    panels[0].set_ylabel("PSNR gain over bicubic, dB")
    caption = (
        f"Gain over bicubic interpolation (bars: 95 % interval over slices) against the time for "
        f"a slice of {size}x{size} on {record['threads']} thread(s) of {record['machine']}. All in "
        "PyTorch; the diamond is the same network on mrlift's engine."
    )
    return _save(drawing, "quality-time", caption)


def _points(axes: "Axes", points: list[tuple[float, Any, str]]) -> None:
    for milliseconds, gain, method in points:
        axes.errorbar(
            milliseconds,
            gain.value,
            yerr=[[gain.value - gain.low], [gain.high - gain.value]],
            fmt="D" if method == "mrlift" else "o",
            ms=8 if method in ("mrl", "mrlift") else 6,
            color=COLOURS.get(method, OTHER),
            capsize=2,
            lw=1,
        )
    axes.set_xscale("log")
    axes.margins(x=0.22, y=0.16)
    for milliseconds, gain, method in points:
        left = milliseconds > np.median([p[0] for p in points])
        axes.annotate(
            name(method),
            (milliseconds, gain.value),
            xytext=(-8 if left else 8, 5),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8.5,
            fontweight="bold" if method in ("mrl", "mrlift") else "normal",
        )


def curves(results: Results, scales: list[int]) -> Picture:
    """Gain on validation patients over HR pixels seen; the last points are what was tested."""
    drawing = _drawing(4.4 * len(scales) + 1.6, 4.2)
    panels = drawing.subplots(1, len(scales), squeeze=False)[0]
    for axes, scale in zip(panels, scales, strict=True):
        for (method, own), quality in results.quality.items():
            if own != scale or method == "bicubic":
                continue
            curve = quality.records[0]["curve"]
            axes.plot(
                [p["hr_pixels"] / 1e6 for p in curve],
                [p["gain"] for p in curve],
                "--" if is_ablation(method) else "-",
                color=COLOURS.get(method, OTHER),
                lw=2 if method == "mrl" else 1.3,
                label=name(method),
            )
        ends = [q.records[0]["curve"][-1]["gain"] for (_, s), q in results.quality.items()
                if s == scale and "curve" in q.records[0]]  # fmt: skip
        axes.set_ylim(min(0.0, *ends) - 0.6, max(ends) + 0.25)
        axes.set(title=f"x{scale}", xlabel="million HR pixels seen")
        axes.grid(alpha=0.2)
    panels[0].set_ylabel("gain over bicubic on validation patients, dB")
    handles = {
        text: line
        for axes in panels
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawing.legend(
        handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8.5
    )
    caption = (
        "Learning curves: averaged weights on held-out patients. A curve that still rises belongs "
        "to a network that more training would improve: equal budget is not convergence."
    )
    return _save(drawing, "curves", caption)


def figure_3(record: dict[str, Any]) -> Picture:
    """Two slices: the truth with its zoomed part, then each method's part and its errors."""
    slices = record["slices"]
    methods = list(slices[0]["methods"])
    columns = 2 + len(methods)
    drawing = _drawing(1.45 * columns, 3.3 * len(slices))
    grid = drawing.subplots(2 * len(slices), columns, squeeze=False)
    for number, shown in enumerate(slices):
        upper, lower = grid[2 * number], grid[2 * number + 1]
        truth, (top, left, side) = unpack(shown["truth"]), shown["window"]
        zoomed = truth[top : top + side, left : left + side]
        _image(upper[0], truth, 0, 1)
        upper[0].set_title(_short(shown["series"]), fontsize=8)
        _box(upper[0], left, top, side)
        _image(upper[1], zoomed, 0, zoomed.max())
        upper[1].set_title("truth", fontsize=8)
        for axes in lower[:2]:
            axes.axis("off")
        for axes, below, method in zip(upper[2:], lower[2:], methods, strict=True):
            part = unpack(shown["methods"][method]["part"])
            _image(axes, part, 0, zoomed.max())
            axes.set_title(f"{name(method)}\n{shown['methods'][method]['psnr']:.2f} dB", fontsize=8)
            _image(below, np.abs(part - zoomed), 0, ERROR, "magma")
    caption = (
        f"Figure 3, x{record['scale']}: the framed part of two test slices by every method, with "
        f"the PSNR of the whole slice; below, absolute errors, from 0 (black) to {ERROR:.0%} of "
        "the series' maximum (white)."
    )
    return _save(drawing, "figure3", caption)


def pack(image: NDArray[np.floating]) -> dict[str, Any]:
    """An image as JSON: float16, where 1 is the series' maximum."""
    small = np.ascontiguousarray(image, dtype="<f2")
    return {"shape": list(image.shape), "float16": base64.b64encode(small.tobytes()).decode()}


def unpack(packed: dict[str, Any]) -> NDArray[np.float32]:
    """What `pack` packed."""
    values = np.frombuffer(base64.b64decode(packed["float16"]), dtype="<f2")
    return values.reshape(packed["shape"]).astype(np.float32)


def _short(series: str) -> str:
    return series.rsplit("/", 1)[-1].replace("_", " ")


def _image(
    axes: "Axes", image: NDArray[np.float32], low: float, high: float, colours: str = "gray"
) -> None:
    axes.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.axis("off")


def _box(axes: "Axes", left: int, top: int, side: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, side, side, fill=False, color="#ffc400", lw=1))


def _drawing(width: float, height: float) -> "Drawing":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(drawing: "Drawing", name: str, caption: str) -> Picture:
    import matplotlib as mpl

    png, svg = io.BytesIO(), io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # the same bytes each time, other ids elsewhere
        drawing.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    drawing.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    text = svg.getvalue().replace(INK, "currentColor")
    text = re.sub(
        r"<\?xml.*?<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', text, flags=re.S
    )
    return Picture(png.getvalue(), text, caption)

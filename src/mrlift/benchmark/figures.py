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
# Where a name may stand beside its point: points across and up, and which end is there.
SPOTS = (
    (8, -4, "left"),
    (-8, -4, "right"),
    (0, 8, "center"),
    (0, -17, "center"),
    (8, 6, "left"),
    (-8, 6, "right"),
    (8, -15, "left"),
    (-8, -15, "right"),
)
BANDS = 2  # of methods for each slice in Figure 3
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points
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
    draw = {"quality-time": quality_time, "curves": curves, "figure3": figure_3}
    with mpl.rc_context(STYLE):
        return {name: draw[name](results) for name in drawable(results)}


def drawable(results: Results) -> list[str]:
    """Names of the pictures that the results are enough for."""
    enough = {
        "quality-time": bool(_timed(results)),
        "curves": bool(_trained(results)),
        "figure3": results.figure is not None,
    }
    return [name for name, there in enough.items() if there]


def _timed(results: Results) -> list[int]:
    return [s for s in _trained(results) if any(t == s for t, _ in results.times)]


def _trained(results: Results) -> list[int]:
    return [s for s in SCALES if len(results.methods(s)) > 1]


def quality_time(results: Results) -> Picture:
    """Gain over bicubic on the y axis, milliseconds per slice on the logarithmic x axis."""
    scales = _timed(results)
    drawing = _drawing(4.6 * len(scales) + 0.6, 4.4)
    panels = drawing.subplots(1, len(scales), squeeze=False)[0]
    size = min(hr for s, hr in results.times if s == scales[0])
    shown = []
    for axes, scale in zip(panels, scales, strict=True):
        record = results.times[scale, size]
        points: list[tuple[float, Any, str]] = []
        for method, entry in record["networks"].items():
            quality = "mrl" if method == "mrlift" else method
            if (quality, scale) not in results.quality:
                continue
            gain = mean(results.gain(quality, scale))
            points.append((entry["seconds"] * 1e3, gain, method))
        _points(axes, points)
        axes.set(title=f"x{scale}", xlabel=f"ms per slice of {size}x{size}")
        axes.grid(alpha=0.2, which="both")
        shown.append((axes, points))
    panels[0].set_ylabel("PSNR gain over bicubic, dB")
    drawing.draw_without_rendering()  # only now is it known where points lie
    for axes, points in shown:
        _label(axes, points)
    caption = (
        f"Gain over bicubic interpolation (bars: 95 % interval over slices) against the time for "
        f"a slice of {size}x{size} on {record['threads']} thread(s) of {record['machine']}. All in "
        "PyTorch; the diamond is the same network on mrlift's engine."
    )
    return _save(drawing, "quality-time", caption)


def _points(axes: "Axes", points: list[tuple[float, Any, str]]) -> None:
    from matplotlib.ticker import LogLocator

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
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.2, y=0.14)
    pair = [p for p in points if p[2] in ("mrl", "mrlift")]
    axes.plot([p[0] for p in pair], [p[1].value for p in pair], ":", color=COLOURS["mrl"], lw=1)


def _label(axes: "Axes", points: list[tuple[float, Any, str]]) -> None:
    """Name each point where its name covers no point, bar, line or other name, if there is room."""
    point = axes.figure.dpi / 72  # in pixels
    dots = [axes.transData.transform((x, gain.value)) / point for x, gain, _ in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    for x, gain, _ in points:
        low, high = (axes.transData.transform((x, v)) / point for v in (gain.low, gain.high))
        taken.append((low[0] - 2, low[1], high[0] + 2, high[1]))
    ours = [dot for dot, p in zip(dots, points, strict=True) if p[2] in ("mrl", "mrlift")]
    if len(ours) > 1:
        (left, y), (right, _) = sorted(map(tuple, ours))
        taken.append((left, y - 1, right, y + 1))
    frame = axes.bbox
    inside = (frame.x0 / point, frame.y0 / point, frame.x1 / point, frame.y1 / point)
    for (milliseconds, gain, method), (x, y) in zip(points, dots, strict=True):
        own = method in ("mrl", "mrlift")
        width, height = (5.6 if own else 4.9) * len(name(method)), 10
        best: tuple[float, tuple[float, float, float, float], tuple[float, float, str]] | None = (
            None
        )
        for across, up, side in SPOTS:
            left = x + across - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (left, y + up, left + width, y + up + height)
            covered = sum(_overlap(box, other) for other in taken)
            covered += width * height - _overlap(box, inside)
            if best is None or covered < best[0]:
                best = covered, box, (across, up, side)
        assert best is not None
        taken.append(best[1])
        axes.annotate(
            name(method),
            (milliseconds, gain.value),
            xytext=best[2][:2],
            textcoords="offset points",
            ha=best[2][2],
            va="bottom",
            fontsize=8.5,
            fontweight="bold" if own else "normal",
        )


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return float(max(width, 0) * max(height, 0))


def curves(results: Results) -> Picture:
    """Gain on validation patients over HR pixels seen; the last points are what was tested."""
    scales = _trained(results)
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
        axes.set_ylim(min(ends) - max(0.5, np.ptp(ends) / 2), max(ends) + 0.2)
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


def figure_3(results: Results) -> Picture:
    """Two slices: the truth with its zoomed part, then each method's part and its errors."""
    assert results.figure is not None
    record = results.figure
    slices = record["slices"]
    methods = list(slices[0]["methods"])
    columns = -(-(2 + len(methods)) // BANDS)
    drawing = _drawing(1.75 * columns, 3.75 * BANDS * len(slices))
    grid = drawing.subplots(2 * BANDS * len(slices), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, shown in enumerate(slices):
        own = grid[2 * BANDS * number : 2 * BANDS * (number + 1)]
        upper, lower = own[::2].ravel(), own[1::2].ravel()
        truth, (top, left, side) = unpack(shown["truth"]), shown["window"]
        zoomed = truth[top : top + side, left : left + side]
        _image(upper[0], truth, truth.max(), _short(shown["series"]))
        _box(upper[0], left, top, side)
        _image(upper[1], zoomed, zoomed.max(), "truth")
        places = zip(upper[2:], lower[2:], methods, strict=False)  # the last may stay empty
        for axes, below, method in places:
            result = shown["methods"][method]
            part = unpack(result["part"])
            _image(axes, part, zoomed.max(), f"{name(method)}\n{result['psnr']:.2f} dB")
            _image(below, np.abs(part - zoomed), ERROR, colours="magma")
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
    axes: "Axes", image: NDArray[np.float32], high: float, title: str = "", colours: str = "gray"
) -> None:
    axes.imshow(image, cmap=colours, vmin=0, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=8.5)


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

"""Compare nearest, bicubic and mrlift on the sample series, by eye and by number.

Run by `make demo`, after `mrlift upscale` has written the derived series:

    python examples/demo.py SERIES UPSCALED PICTURE.png MODEL

The upper row shows the series as it is, enlarged twice: nobody knows the truth there. The lower
row starts from a copy reduced twice, so the original is the truth and errors can be counted.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import mrlift
from mrlift.benchmark.comparison import compare
from mrlift.inference.degradation import degrade
from mrlift.resampling import bicubic_up

SCALE = 2
SIDE = 76  # voxels of the series a side of a zoomed part
ZOOM = 4 * SIDE  # pixels a side of a panel: whole pixels for each voxel, nothing resampled
LABEL = 46  # pixels above a panel for its title
GAP = 10
BACKGROUND, TEXT, MUTED, FRAME = (16, 18, 22), (240, 240, 240), (160, 166, 176), (255, 196, 0)


@dataclass(frozen=True)
class Panel:
    """One picture and what to write above it; `frame` is a box to draw, in its pixels."""

    image: np.ndarray
    title: str
    note: str = ""
    frame: tuple[int, int, int, int] | None = None


def enlarged(volume: mrlift.Volume, method: str) -> mrlift.Volume:
    """The volume enlarged twice without a network."""
    stack = volume.slices().astype(np.float32)
    if method == "nearest":
        larger = stack.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    else:
        larger = bicubic_up(stack, SCALE)
    return volume.resized(volume.voxels_from_slices(larger), SCALE)


def plane(volume: mrlift.Volume, index: int) -> np.ndarray:
    """A slice as rows and columns."""
    return np.asarray(volume.voxels[:, :, index].T, dtype=np.float32)


def crop(image: np.ndarray, corner: tuple[int, int], scale: int = 1) -> np.ndarray:
    """The part of SIDE x SIDE voxels of the series below and right of `corner` (row, column)."""
    top, left = (scale * v for v in corner)
    return image[top : top + scale * SIDE, left : left + scale * SIDE]


def draw(rows: list[list[Panel]], white: float, path: Path) -> None:
    """Panels in rows, with their titles, as a PNG."""
    font, small = ImageFont.load_default(17), ImageFont.load_default(14)
    columns = max(map(len, rows))
    size = (GAP + columns * (ZOOM + GAP), GAP + len(rows) * (ZOOM + LABEL + GAP))
    sheet = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            left, top = GAP + x * (ZOOM + GAP), GAP + y * (ZOOM + LABEL + GAP)
            pen.text((left, top), panel.title, TEXT, font)
            pen.text((left, top + 22), panel.note, MUTED, small)
            grey = Image.fromarray((np.clip(panel.image / white, 0, 1) * 255).astype(np.uint8))
            picture = grey.convert("RGB")
            if panel.frame:
                ImageDraw.Draw(picture).rectangle(panel.frame, outline=FRAME, width=2)
            if max(picture.size) > ZOOM:
                picture.thumbnail((ZOOM, ZOOM))
            else:
                picture = picture.resize((ZOOM, ZOOM), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, top + LABEL))
    sheet.save(path)


def main(source: Path, result: Path, picture: Path, model: str) -> None:
    """Everything that the demo prints and draws."""
    hr, sr = mrlift.load(source), mrlift.load(result)
    lr = degrade(hr, SCALE)
    ways = {"nearest": enlarged(lr, "nearest"), "bicubic": enlarged(lr, "bicubic")}
    ways["mrlift"] = mrlift.upscale(lr, SCALE, model)
    figures = {name: compare(volume, hr).mean for name, volume in ways.items()}
    print(f"\n{model} on a copy of the series reduced {SCALE} times, against the original:")
    for name, mean in figures.items():
        print(f"  {name:8} PSNR {mean['psnr']:.2f} dB   SSIM {mean['ssim']:.4f}")
    gain = figures["mrlift"]["psnr"] - figures["bicubic"]["psnr"]
    print(f"  mrlift is {gain:+.2f} dB above bicubic interpolation")

    index = hr.voxels.shape[2] // 2
    corner = (172, 98)
    overview = plane(hr, index)
    above = {
        "nearest": enlarged(hr, "nearest"),
        "bicubic": enlarged(hr, "bicubic"),
        "mrlift": sr,
    }
    size = f"{sr.voxels.shape[0]}x{sr.voxels.shape[1]}"
    frame = (corner[1], corner[0], corner[1] + SIDE, corner[0] + SIDE)
    top = [Panel(overview, "the series", f"slice {index + 1} of {hr.voxels.shape[2]}", frame)]
    top += [
        Panel(crop(plane(v, index), corner, SCALE), f"{name} x{SCALE}", f"from the series, {size}")
        for name, v in above.items()
    ]
    below = [
        Panel(
            crop(plane(v, index), corner),
            f"{name}, from the reduced copy",
            f"PSNR {figures[name]['psnr']:.2f} dB, SSIM {figures[name]['ssim']:.4f}",
        )
        for name, v in ways.items()
    ]
    below.append(Panel(crop(overview, corner), "the truth", "the series itself"))
    draw([top, below], float(np.percentile(overview, 99.8)), picture)


if __name__ == "__main__":
    series, upscaled, drawing, weights = sys.argv[1:]
    main(Path(series), Path(upscaled), Path(drawing), weights)

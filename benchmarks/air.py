"""What skipping air gains on the sample series: `upscale` with and without it, in turn.

python benchmarks/air.py MODEL [ROUNDS] > benchmarks/results/air-MODEL.json
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import mrlift
from mrlift.benchmark.comparison import compare
from mrlift.benchmark.quality import circumstances
from mrlift.inference.air import object_mask
from mrlift.inference.degradation import degrade
from mrlift.inference.normalise import series_scale
from mrlift.metrics import psnr

name, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
model = mrlift.load_model(name)
source = Path(__file__).parents[1] / "samples/t1w"
seconds: dict[bool, list[float]] = {True: [], False: []}
for _ in range(rounds):
    for whole, values in seconds.items():
        began = time.perf_counter()
        mrlift.upscale(mrlift.load(source), model=model, whole=whole)
        values.append(time.perf_counter() - began)

hr = mrlift.load(source)
lr = degrade(hr, 2, dtype=np.dtype(np.float32))
unit = series_scale(lr.voxels)
inside = np.stack([object_mask((s / unit).astype(np.float32)) for s in lr.slices()])
inside = inside.repeat(2, 1).repeat(2, 2)
peak = float(hr.voxels.max())
truth, figures = hr.slices()[:, : inside.shape[1], : inside.shape[2]], {}
for whole in seconds:
    sr = mrlift.upscale(lr, model=model, whole=whole)
    figures[whole] = {
        "psnr_inside": psnr(truth[inside], sr.slices()[inside], data_range=peak),
        "psnr": compare(sr, hr).mean["psnr"],
    }
medians = {whole: statistics.median(values) for whole, values in seconds.items()}
record = {
    **circumstances(f"python benchmarks/air.py {name} {rounds}"),
    "model": name,
    "engine": model.name,
    "object_share": float(inside.mean()),
    "seconds_whole": medians[True],
    "seconds_without_air": medians[False],
    "gain": medians[True] / medians[False],
    "figures_whole": figures[True],
    "figures_without_air": figures[False],
}
print(json.dumps(record, indent=2))

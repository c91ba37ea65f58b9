"""Engines: callables from LR slices (n, h, w) to SR slices (n, H, W), both float32."""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import ModelError
from mrlift.resampling import Grid, bicubic_up

Slices = NDArray[np.float32]
Engine = Callable[[Slices], Slices]

# Rows and columns of results that Winograd's F(6x6, 3x3) computes together. Where what is cut out
# of a slice begins at a multiple of it, tiles lie where those of the slice do, and round alike.
TILE = 6


def cores() -> int:
    """Cores that this process may use: its affinity, and where a container sets one its quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have none
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroups, or "max": no limit
        pass
    return count


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")  # on Linux `platform` knows no more than the architecture
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def flags() -> set[str]:
    """What the processor can do, in the words of Linux; elsewhere empty."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    lines = info.read_text(encoding="utf-8").splitlines()
    return set(next((x for x in lines if x.startswith("flags")), "").split()[2:])


def onnx_engine(weights: bytes, threads: int = 0) -> Engine:
    """ONNX Runtime on the CPU.

    Args:
        weights: content of an .onnx file that maps (n, 1, h, w) to (n, 1, H, W).
        threads: threads within one call; 0 takes all cores.

    Raises:
        ModelError: it is not a network that ONNX Runtime can load.
    """
    import onnxruntime  # 0.1 s, which another engine need not wait for

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    # A plan of memory for each size of patch, kept and never shared, would double the peak.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors only: the library is silent
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions derive from Exception only
        raise ModelError(f"The weights cannot be loaded by ONNX Runtime: {error}.") from error
    (name,) = (node.name for node in session.get_inputs())

    def run(slices: Slices) -> Slices:
        (output,) = session.run(None, {name: slices[:, None]})
        return np.asarray(output)[:, 0]

    return run


def bicubic_engine(scale: int, grid: Grid = "edges") -> Engine:
    """Bicubic interpolation behind the same seam: the baseline, and the tests' engine."""
    return lambda slices: bicubic_up(slices, scale, grid).astype(np.float32, copy=False)

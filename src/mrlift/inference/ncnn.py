"""The network in ncnn: Winograd convolutions on strips that fit into a core's cache.

ncnn's Winograd convolutions spend a fifth of the multiplications of direct ones. Source: Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from mrlift.errors import ModelError
from mrlift.graph import Array, Parts, parts, read_graph
from mrlift.inference.engines import TILE, Engine
from mrlift.inference.strips import Passage, Strip

AREA = 2500  # LR samples of a strip: a tensor of 128 channels then takes 1.3 MB
OFF = (
    "bf16_storage", "fp16_arithmetic", "fp16_packed", "fp16_storage",
    "int8_arithmetic", "int8_inference", "int8_packed", "int8_storage", "vulkan_compute",
)  # fmt: skip
_Mats = tuple[Any, Any]  # ncnn's own, one for each convolution of a unit


def ncnn_engine(weights: bytes, threads: int = 0) -> Engine:
    """The library ncnn on the CPU, in single precision.

    Args:
        weights: content of an .onnx file of a multi-resolution learning network.
        threads: threads within one call; 0 takes all cores.

    Raises:
        ModelError: ncnn is not installed, or these are of another network.
    """
    try:
        import ncnn
    except ImportError as error:
        raise ModelError(
            "The engine ncnn is not installed. `pip install mrlift[fast]` adds it."
        ) from error
    return _Stream(ncnn, parts(read_graph(weights))).engine(threads)


class _Stream(Passage[tuple[Array, Any], _Mats]):
    """One network in ncnn and the passage of slices through it."""

    def __init__(self, ncnn: Any, network: Parts) -> None:  # noqa: ANN401
        super().__init__(network, AREA, TILE)
        self.ncnn = ncnn
        self.net, self.join = _load(ncnn, _program(network)), _load(ncnn, _join())
        self.pools = ncnn.PoolAllocator(), ncnn.PoolAllocator()  # ncnn keeps no reference
        self.net.opt.blob_allocator, self.net.opt.workspace_allocator = self.pools

    def begin(
        self, image: Array, cut: list[Strip], threads: int
    ) -> tuple[tuple[Array, Any], list[_Mats]]:
        """The slice with a row of zeros above and below; zeros for each unit's two layers."""
        height, width = image.shape
        padded = np.zeros((1, height + 2, width), np.float32)
        padded[0, 1:-1] = image
        zero = self.ncnn.Mat((width, 1, self.channels))
        zero.fill(0.0)
        return (padded, zero), [(zero, zero)] * self.units

    def through(
        self,
        shared: tuple[Array, Any],
        strip: Strip,
        kept: list[Future[_Mats]],
        following: list[Future[_Mats]],
    ) -> tuple[int, Array]:
        """One strip through all units, see `Passage.through`."""
        padded, zero = shared
        first, last = strip.begin[-1] * self.scale, (strip.end[0] - 1) * self.scale + self.kernel
        result = np.zeros((last - first, self.width(padded.shape[-1])), np.float32)
        extractor = self.net.create_extractor()
        own = padded[:, strip.begin[0] + 1 : strip.end[0] + 1]
        extractor.input("slice", self.ncnn.Mat(own))
        self._add(result, extractor, "direct", strip.begin[0] * self.scale - first)
        for unit in range(self.units + 1):
            layer = 2 * unit
            rows = padded[:, strip.begin[layer] : strip.end[layer] + 2]
            extractor.input(f"rows{unit}", self.ncnn.Mat(rows))
        for unit in range(self.units):
            before = kept[unit].result()
            for k, mat in zip((2 * unit, 2 * unit + 1), before, strict=True):
                if strip.final:
                    mat = self._joined(mat, _extract(extractor, f"in{k}"), zero)
                    extractor.input(f"both{k}", mat)
                else:
                    extractor.input(f"kept{k}", mat)
            top = strip.begin[2 * unit + 2] * self.scale - first
            self._add(result, extractor, f"sum{unit}", top)
            if not strip.final:
                first_kept, second_kept = (
                    _extract(extractor, f"keep{k}") for k in (2 * unit, 2 * unit + 1)
                )
                following[unit].set_result((first_kept, second_kept))
        return first, result

    def _add(self, result: Array, extractor: Any, name: str, top: int) -> None:  # noqa: ANN401
        part = np.array(_extract(extractor, name, packed=False))
        result[top : top + part.shape[-2]] += part.reshape(part.shape[-2], -1)

    def _joined(self, above: Any, rows: Any, below: Any) -> Any:  # noqa: ANN401
        extractor = self.join.create_extractor()
        for name, mat in (("above", above), ("rows", rows), ("below", below)):
            extractor.input(name, mat)
        return _extract(extractor, "all")


def _extract(extractor: Any, name: str, *, packed: bool = True) -> Any:  # noqa: ANN401
    """A blob; `packed` leaves it in the layout of the layers, for going back in."""
    status, mat = extractor.extract(name, int(packed))
    if status:
        raise ModelError(f"ncnn ended with status {status}: there may be too little memory.")
    return mat


class _Program:
    """ncnn's two files, its param text and its weights, as they grow layer by layer."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.blobs = 0
        self.weights: list[bytes] = []

    def add(
        self, kind: str, sources: list[str], results: list[str], options: str = "", *arrays: Array
    ) -> None:
        names = " ".join([*sources, *results])
        counts = f"{len(sources)} {len(results)}"
        self.lines.append(f"{kind} layer{len(self.lines)} {counts} {names} {options}")
        self.blobs += len(results)
        if arrays:
            self.weights.append(bytes(4))  # no compression; the bias, if any, has no such tag
        self.weights += [np.ascontiguousarray(a, np.float32).tobytes() for a in arrays]

    def text(self) -> str:
        return "\n".join(["7767517", f"{len(self.lines)} {self.blobs}", *self.lines, ""])


def _program(network: Parts) -> _Program:
    """Inputs are rows of the slice for each unit and the two rows that each convolution kept."""
    program, count = _Program(), len(network.units)
    channels = len(network.head[1])
    for name in ("slice", *(f"rows{i}" for i in range(count + 1))):
        program.add("Input", [], [name])
    for k in range(2 * count):
        program.add("Input", [], [f"kept{k}"])
    kernels = network.deconvolution.transpose(1, 0, 2, 3)  # ncnn has the output first
    size = kernels.shape[-1]
    only_sideways = f"0=1 1={size} 3={network.scale} 4={network.cut} 15={network.cut} 14=0 16=0"
    program.add(
        "Deconvolution", ["slice"], ["direct"], f"{only_sideways} 5=0 6={size * size}",
        network.total * kernels[:, channels:],
    )  # fmt: skip

    def convolve(source: str, result: str, layer: tuple[Array, Array], *, relu: bool) -> None:
        options = f"0={channels} 1=3 4=1 15=1 14=0 16=0 5=1 6={layer[0].size} 9={int(relu)}"
        program.add("Convolution", [source], [result], options, *layer)

    convolve("rows0", "in0", network.head, relu=True)
    for unit, (layers, share) in enumerate(zip(network.units, network.shares, strict=True)):
        for k, layer in zip((2 * unit, 2 * unit + 1), layers, strict=True):
            program.add("Concat", [f"kept{k}", f"in{k}"], [f"both{k}"], "0=1")
            program.add("Split", [f"both{k}"], [f"both{k}a", f"both{k}b"])
            program.add("Crop", [f"both{k}b"], [f"keep{k}"], "-23309=1,-2 -23310=1,-233 -23311=1,1")
            result = f"in{k + 1}" if k % 2 == 0 else f"second{unit}"
            convolve(f"both{k}a", result, layer, relu=k % 2 == 0)
        # U_0 again from the slice: cheaper than to keep as many rows of it as units lie between.
        convolve(f"rows{unit + 1}", f"head{unit}", network.head, relu=False)
        program.add("BinaryOp", [f"head{unit}", f"second{unit}"], [f"u{unit}"], "0=0")
        source = f"u{unit}"
        if unit + 1 < count:
            program.add("Split", [source], [f"{source}a", f"{source}b"])
            program.add("ReLU", [f"{source}b"], [f"in{2 * unit + 2}"])
            source += "a"
        program.add(
            "Deconvolution", [source], [f"sum{unit}"],
            f"{only_sideways} 5=0 6={channels * size * size}", share * kernels[:, :channels],
        )  # fmt: skip
    return program


def _join() -> _Program:
    program = _Program()
    names = ["above", "rows", "below"]
    for name in names:
        program.add("Input", [], [name])
    program.add("Concat", names, ["all"], "0=1")
    return program


def _load(ncnn: Any, program: _Program) -> Any:  # noqa: ANN401
    net = ncnn.Net()
    for name in OFF:
        setattr(net.opt, f"use_{name}", False)
    net.opt.num_threads = 1
    status = net.load_param_mem(program.text())
    if program.weights and not status:
        # ncnn refers to weights in memory without keeping them alive; a file it copies.
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "weights.bin"
                file.write_bytes(b"".join(program.weights))
                status = net.load_model(str(file))
        except OSError as error:
            raise ModelError(
                f"ncnn needs a temporary file, which cannot be written: {error.strerror}."
            ) from error
    if status:
        raise ModelError(f"ncnn cannot load the network: status {status}.")
    return net

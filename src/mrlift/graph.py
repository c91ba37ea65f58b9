"""Networks as they are stored: the nodes and weights of an .onnx file, on numpy alone.

Reads what `mrlift export` writes: float32 and float16 initialisers with raw data. The `onnx`
package would do it too, for 36 MB and 0.1 s at every start.

Source: onnx.proto of ONNX and the protocol buffers encoding, both by field number.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import ModelError

Array = NDArray[np.float32]
Fields = list[tuple[int, int | memoryview]]
KINDS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2")}  # TensorProto.DataType


@dataclass(frozen=True)
class Node:
    """An operator with the names of what goes in and out; integer attributes as tuples."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they run, and every weight as float32."""

    nodes: tuple[Node, ...]
    weights: dict[str, Array]


def read_graph(content: bytes) -> Graph:
    """The network in the content of an .onnx file; casts of weights are carried out.

    Raises:
        ModelError: it is not ONNX with plain weights.
    """
    try:
        model = _fields(memoryview(content))
        (graph,) = (value for number, value in model if number == 7)
        fields = _fields(_bytes(graph))
        weights = dict(_tensor(_fields(_bytes(v))) for number, v in fields if number == 5)
        kept = []
        for node in (_node(_fields(_bytes(v))) for number, v in fields if number == 1):
            if node.operator == "Cast" and node.inputs[0] in weights:
                weights[node.outputs[0]] = weights.pop(node.inputs[0])
            else:
                kept.append(node)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ModelError("The weights cannot be loaded: they are not a network in ONNX.") from error
    return Graph(tuple(kept), weights)


def _fields(data: memoryview) -> Fields:
    """The (number, value) pairs of a message; bytes for length-delimited and fixed fields."""
    return list(_iterate(data))


def _iterate(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: int | memoryview
        match key & 7:
            case 0:
                value, at = _varint(data, at)
            case 1 | 2 | 5 as kind:
                size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
                value, at = data[at : at + size], at + size
            case _:
                raise ValueError("unknown wire type")
        if at > len(data):
            raise ValueError("the file ends early")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected bytes")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()


def _integers(fields: Fields, number: int) -> tuple[int, ...]:
    """A repeated integer field, packed or not."""
    found: list[int] = []
    for field, value in fields:
        if field != number:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return tuple(found)


def _tensor(fields: Fields) -> tuple[str, Array]:
    (name,) = (_text(v) for number, v in fields if number == 8)
    (raw,) = (_bytes(v) for number, v in fields if number == 9)
    ((kind,), shape) = _integers(fields, 2), _integers(fields, 1)
    values = np.frombuffer(raw, KINDS[kind]).astype(np.float32)
    if math.prod(shape) != values.size:
        raise ValueError("a tensor has another size than its shape")
    return name, values.reshape(shape)


def _node(fields: Fields) -> Node:
    attributes = {}
    for number, value in fields:
        if number == 5:
            inner = _fields(_bytes(value))
            (name,) = (_text(v) for n, v in inner if n == 1)
            attributes[name] = _integers(inner, 8) or _integers(inner, 3)
    names = {n: tuple(_text(v) for number, v in fields if number == n) for n in (1, 2, 4)}
    return Node(names[4][0], names[1], names[2], attributes)


@dataclass(frozen=True)
class Parts:
    """The weights of a multi-resolution learning network, in the words of the paper.

    Attributes:
        head: weight (c, 1, 3, 3) and bias (c,) of the first convolution.
        units: weights and biases of both convolutions of each unit, in order.
        shares: the weight of each y_i in the sum.
        total: their sum.
        deconvolution: (c + 1, 1, k, k); the last input is the LR slice.
        bias: of the fused deconvolution, (1,): `total` times that of one.
        scale: the stride of the deconvolution.
        cut: HR samples that the deconvolution drops at each border.
    """

    head: tuple[Array, Array]
    units: tuple[tuple[tuple[Array, Array], tuple[Array, Array]], ...]
    shares: tuple[float, ...]
    total: float
    deconvolution: Array
    bias: Array
    scale: int
    cut: int


def parts(graph: Graph) -> Parts:
    """The parts of an exported multi-resolution learning network.

    Raises:
        ModelError: the graph is that of another network.
    """
    try:
        return _parts(graph)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError("The graph is not that of a multi-resolution learning network.") from error


def _parts(graph: Graph) -> Parts:
    convolutions: list[tuple[Array, Array]] = []
    shares: list[float] = []
    total: list[float] = []
    weights = graph.weights
    slices = graph.nodes[0].inputs[0]
    last = graph.nodes[-1]
    for node in graph.nodes:
        if node.operator == "Conv":
            convolutions.append((weights[node.inputs[1]], weights[node.inputs[2]]))
        if node.operator == "Concat" and slices in node.inputs:
            total.append(1.0)  # exporters leave out a product with exactly one
        if node.operator == "Mul":
            ((name,), (other,)) = (
                [x for x in node.inputs if (x in weights) is kind] for kind in (True, False)
            )
            (total if other == slices else shares).append(float(weights[name].item()))
    count = len(shares)
    if (
        len(total) != 1
        or last.operator != "ConvTranspose"
        or len(convolutions) != 1 + 2 * count
        or {node.operator for node in graph.nodes}
        != {"Conv", "Relu", "Add", "Mul", "Concat", "ConvTranspose"}
    ):
        raise ValueError("other operators, or another number of them")
    channels = len(convolutions[0][0])
    for k, (weight, bias) in enumerate(convolutions):  # engines in C go by the channels alone
        expected = (channels, channels if k else 1, 3, 3)
        if weight.shape != expected or bias.shape != (channels,):
            raise ValueError(f"convolution {k} has weights of {weight.shape}, not {expected}")
    if weights[last.inputs[1]].shape[:2] != (channels + 1, 1):
        raise ValueError("a deconvolution of another number of channels")
    pairs = zip(convolutions[1::2], convolutions[2::2], strict=True)
    return Parts(
        head=convolutions[0],
        units=tuple(pairs),
        shares=tuple(shares),
        total=total[0],
        deconvolution=weights[last.inputs[1]],
        bias=weights[last.inputs[2]],
        scale=last.attributes["strides"][0],
        cut=last.attributes["pads"][0],
    )

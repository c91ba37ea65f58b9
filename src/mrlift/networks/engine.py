"""Stored networks on torch: as an engine, and as the paper writes them down."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrlift.errors import ModelError
from mrlift.graph import Graph, Node, parts, read_graph
from mrlift.networks.mrl import MRL

Slices = NDArray[np.float32]
Run = Callable[[Slices], Slices]


def torch_engine(weights: bytes, threads: int = 0) -> Run:
    """The stored graph node by node, on the first CUDA device or else on the CPU.

    Args:
        weights: content of an .onnx file that `mrlift export` wrote.
        threads: threads of the whole process, as torch counts them; 0 leaves them.

    Raises:
        ModelError: it is not such a network.
    """
    graph = read_graph(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arrays = {k: torch.from_numpy(v).to(device) for k, v in graph.weights.items()}

    def run(slices: Slices) -> Slices:
        return _numpy(lambda x: _walk(graph, arrays, x.to(device)), slices, threads)

    return run


def module_engine(network: nn.Module) -> Run:
    """Any network as an engine, in eager torch on the CPU, with the threads that torch has."""
    network.eval()
    return lambda slices: _numpy(network, slices, 0)


def paper_engine(weights: bytes, network: dict[str, Any], threads: int = 0) -> Run:
    """The network in eager torch with one deconvolution for each y_i, as eq. 1-4 say.

    The measure of speed, not a way to work: the same result as every engine, later. Arguments and
    errors are those of `stored_network`; `threads` as for `torch_engine`.
    """
    forward = as_written(stored_network(weights, network))
    return lambda slices: _numpy(forward, slices, threads)


def as_written(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network's forward pass as its paper writes it: that of MRL sums N deconvolutions, eq. 4."""
    if not isinstance(network, MRL) or network.upsampling != "multi":
        return network

    def forward(x: Tensor) -> Tensor:
        y_hat = torch.zeros(())
        for share, y in zip(network.weights, network.images(x), strict=True):
            y_hat = y_hat + share * y
        return y_hat

    return forward


def stored_network(weights: bytes, network: dict[str, Any]) -> MRL:
    """The multi-resolution learning network that weights are of.

    Args:
        weights: content of an .onnx file that `mrlift export` wrote.
        network: what its card says of the network.

    Raises:
        ModelError: they are of another network.
    """
    stored = parts(read_graph(weights))
    options = {k: network[k] for k in ("units", "channels", "grid", "shared_units")}
    module = MRL(stored.scale, kernel=stored.deconvolution.shape[-1], **options)
    with torch.no_grad():
        layers = [module.head]
        for unit in module.units:
            layers += [unit.first, unit.second]  # type: ignore[list-item]
        arrays = [stored.head, *(layer for unit in stored.units for layer in unit)]
        for layer, (weight, bias) in zip(layers, arrays[: len(layers)], strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))  # type: ignore[union-attr]
        module.weights.copy_(torch.tensor(stored.shares))
        module.deconv.weight.copy_(torch.from_numpy(stored.deconvolution))
        module.deconv.bias.copy_(torch.from_numpy(stored.bias / stored.total))  # type: ignore[union-attr]
    return module.eval()


def _numpy(forward: Callable[[Tensor], Tensor], slices: Slices, threads: int) -> Slices:
    if threads and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    with torch.inference_mode():
        result: Slices = forward(torch.from_numpy(slices)[:, None])[:, 0].cpu().numpy()
    return result


def _walk(graph: Graph, arrays: dict[str, Tensor], x: Tensor) -> Tensor:
    values = {**arrays, graph.nodes[0].inputs[0]: x}
    for node in graph.nodes:
        values[node.outputs[0]] = _compute(node, [values[name] for name in node.inputs])
    return values[graph.nodes[-1].outputs[0]]


def _compute(node: Node, inputs: list[Tensor]) -> Tensor:
    f = torch.nn.functional
    padding = node.attributes.get("pads", (0, 0))[:2]
    first, *rest = inputs
    match node.operator:
        case "Conv":
            return f.conv2d(first, rest[0], rest[1], padding=padding)
        case "ConvTranspose":
            stride = node.attributes["strides"]
            return f.conv_transpose2d(first, rest[0], rest[1], stride, padding)
        case "Relu":
            return first.relu()
        case "Add":
            return first + rest[0]
        case "Mul":
            return first * rest[0]
        case "Concat":
            return torch.cat(inputs, dim=1)
        case other:
            raise ModelError(f"The torch engine does not know the operator {other}.")

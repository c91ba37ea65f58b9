"""From a run to weights that run without torch: ONNX with the fused sum, and their card."""

import hashlib
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from mrlift.errors import ModelError
from mrlift.inference.card import Card
from mrlift.inference.engines import onnx_engine
from mrlift.inference.zoo import save_weights
from mrlift.networks.mrl import MRL
from mrlift.training.checkpoint import Checkpoint
from mrlift.training.loop import build_network

PARITY = 1e-5  # largest difference between torch and ONNX Runtime, of full scale
GAIN = "validation PSNR gain over bicubic, dB"
PADDING = 4  # LR samples mirrored around a slice: beyond it the zero padding is hardly seen


def export(checkpoint: Checkpoint, weights: Path) -> Card:
    """Write the averaged weights of a run to `weights` (.onnx) and their card beside it (.json).

    Weights are stored as float16 and computed with as float32. Before anything is written the
    result is compared with torch holding the same rounded weights.

    Raises:
        ModelError: ONNX Runtime and torch differ by more than `PARITY`, or another network.
    """
    network = build_network(checkpoint.recipe.network)
    if not isinstance(network, MRL):
        raise ModelError(
            f"Only the network mrl is exported; {checkpoint.recipe.network.name} is there to be "
            "compared with, by `mrlift bench`."
        )
    network.load_state_dict({k: v.half().float() for k, v in checkpoint.average.items()})
    network.eval()
    graph = _to_onnx(network)
    _store_as_float16(graph)
    content = graph.SerializeToString()
    difference = _difference(network, content)
    if difference > PARITY:
        raise ModelError(f"torch and ONNX Runtime differ by {difference:.2g}; allowed {PARITY}.")
    card = _card(checkpoint, network, hashlib.sha256(content).hexdigest())
    save_weights(card, content, weights, overwrite=True)
    return card


def _to_onnx(network: MRL) -> onnx.ModelProto:
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 1, 24, 20),),
            input_names=["lr"],
            output_names=["sr"],
            dynamic_shapes=(axes,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _store_as_float16(model: onnx.ModelProto) -> None:
    """Keep each initialiser that is exact in float16 as such, followed by a cast.

    ONNX Runtime folds the casts away when it loads: half the file, the same arithmetic.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        exact = numpy_helper.to_array(tensor)
        values = exact.astype(np.float16)
        if not np.array_equal(values, exact):
            continue  # a few numbers that the tracer computed from the rounded weights
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for node in graph.node:  # where the tracer ran is nobody's business and would leak paths
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    onnx.checker.check_model(model)


def _difference(network: MRL, content: bytes) -> float:
    """Largest difference over slices of three sizes with noise and edges."""
    rng = np.random.default_rng(0)
    worst = 0.0
    engine = onnx_engine(content)
    for shape in ((1, 32, 32), (2, 37, 50), (1, 8, 65)):
        slices = rng.random(shape, dtype=np.float32)
        slices[:, shape[1] // 2 :] *= 0.2
        with torch.inference_mode():
            expected = network(torch.from_numpy(slices)[:, None])[:, 0].numpy()
        worst = max(worst, float(np.abs(engine(slices) - expected).max()))
    return worst


def _card(checkpoint: Checkpoint, network: MRL, sha256: str) -> Card:
    recipe = checkpoint.recipe
    last = checkpoint.history[-1]
    facts = checkpoint.facts
    return Card(
        name=recipe.card.name,
        network=asdict(recipe.network)
        | {"parameters": sum(p.numel() for p in network.parameters())},
        scale=network.scale,
        grid=network.grid,
        degradation=recipe.data.degradation,
        normalisation="99.9th percentile of the non-zero voxels of the series",
        receptive_field=network.receptive_field,
        padding=PADDING,
        spacing=tuple(facts["spacing"]),
        training=json.loads(json.dumps(asdict(recipe.training)))
        | {"lr_pixels_seen": last["lr_pixels"] + sum(s["lr_pixels"] for s in facts["start"])}
        | {"noise": list(recipe.data.noise)}
        | {k: facts[k] for k in ("start", "patients", "series", "slices", "contrasts")},
        data=tuple(facts["sources"]),
        licence=recipe.card.licence,
        metrics={GAIN: round(last["gain"], 3)}
        | {f"{GAIN}: {kind}": value for kind, value in facts["validation"].items()},
        sha256=sha256,
    )

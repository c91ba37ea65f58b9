"""Stored networks read without onnx are what onnx reads."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlift.errors import ModelError
from mrlift.graph import parts, read_graph
from mrlift.inference.card import load_card
from mrlift.inference.zoo import SHIPPED

FILES = sorted(SHIPPED.glob("*.onnx"))


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_nodes_and_weights_are_those_that_onnx_reads(file):
    onnx = pytest.importorskip("onnx", reason="comes with the train extra")
    graph, model = read_graph(file), onnx.load(file).graph
    assert [n.operator for n in graph.nodes] == [
        n.op_type for n in model.node if n.op_type != "Cast"
    ]
    for tensor in model.initializer:
        ours = graph.weights[tensor.name.removesuffix(".half")]
        np.testing.assert_array_equal(ours, onnx.numpy_helper.to_array(tensor))
    last = model.node[-1]
    theirs = {a.name: tuple(a.ints) for a in last.attribute if a.ints}
    assert theirs.items() <= graph.nodes[-1].attributes.items()


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_parts_are_what_the_card_says(file):
    found, card = parts(read_graph(file)), load_card(file.with_suffix(".json"))
    assert len(found.units) == len(found.shares) == card.network["units"]
    assert found.head[0].shape == (card.network["channels"], 1, 3, 3)
    assert found.scale == card.scale
    assert sum(found.shares) == pytest.approx(found.total, abs=1e-5)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_damaged_files_are_refused_or_read(tmp_path_factory, at, junk):
    content = bytearray((SHIPPED / "mrl-tiny-x2-bicubic.onnx").read_bytes())
    at = at * 7 % len(content)
    content[at : at + len(junk)] = junk
    path = tmp_path_factory.mktemp("damaged") / "a.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        parts(read_graph(path))


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        read_graph(tmp_path / "missing.onnx")
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a network in ONNX"):
        read_graph(tmp_path / "a.onnx")

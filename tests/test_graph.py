"""Stored networks read without onnx are what onnx reads."""

import contextlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mrlift.errors import ModelError
from mrlift.graph import parts, read_graph
from mrlift.inference.zoo import find_weights, shipped_names


@pytest.mark.parametrize("name", shipped_names())
def test_nodes_and_weights_are_those_that_onnx_reads(name):
    onnx = pytest.importorskip("onnx", reason="comes with the train extra")
    _, content = find_weights(name)
    graph, model = read_graph(content), onnx.load_from_string(content).graph
    assert [n.operator for n in graph.nodes] == [
        n.op_type for n in model.node if n.op_type != "Cast"
    ]
    for tensor in model.initializer:
        ours = graph.weights[tensor.name.removesuffix(".half")]
        np.testing.assert_array_equal(ours, onnx.numpy_helper.to_array(tensor))
    last = model.node[-1]
    theirs = {a.name: tuple(a.ints) for a in last.attribute if a.ints}
    assert theirs.items() <= graph.nodes[-1].attributes.items()


@pytest.mark.parametrize("name", shipped_names())
def test_parts_are_what_the_card_says(name):
    card, content = find_weights(name)
    found = parts(read_graph(content))
    assert len(found.units) == len(found.shares) == card.network["units"]
    assert found.head[0].shape == (card.network["channels"], 1, 3, 3)
    assert found.scale == card.scale
    assert sum(found.shares) == pytest.approx(found.total, abs=1e-5)


@pytest.mark.parametrize(("old", "new"), [((32, 32, 3, 3), (16, 32, 3, 3)), ((32,), (16,))])
def test_weights_that_do_not_fit_each_other_are_refused(old, new):
    """Engines in C go by the number of channels alone, and would read past their end."""
    onnx = pytest.importorskip("onnx", reason="comes with the train extra")
    model = onnx.load_from_string(find_weights("mrl-tiny-x2-bicubic")[1])
    unit = [t for t in model.graph.initializer if tuple(t.dims) == old][-1]
    smaller = np.zeros(new, onnx.numpy_helper.to_array(unit).dtype)
    unit.CopyFrom(onnx.numpy_helper.from_array(smaller, unit.name))
    with pytest.raises(ModelError, match="not that of"):
        parts(read_graph(model.SerializeToString()))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
@example(179, b"\xd1")  # a cast without a result
def test_damaged_files_are_refused_or_read(at, junk):
    content = bytearray(find_weights("mrl-tiny-x2-bicubic")[1])
    at = at * 7 % len(content)
    content[at : at + len(junk)] = junk
    with contextlib.suppress(ModelError):
        parts(read_graph(bytes(content)))


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_what_is_no_network_is_refused(content):
    with pytest.raises(ModelError, match="not a network in ONNX"):
        read_graph(content)

"""Every engine gives what torch gives, for all shipped weights and any size."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlift.errors import ModelError
from mrlift.inference.choice import ENGINES, PARITY, open_engine
from mrlift.inference.engines import cores
from mrlift.inference.zoo import SHIPPED, find_weights

FILES = sorted(SHIPPED.glob("*.onnx"))
SHAPES = [(1, 1, 1), (1, 5, 9), (2, 37, 50), (1, 90, 31), (1, 130, 8)]


def slices(shape, seed=0):
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    image[:, shape[1] // 2 :] *= 0.2
    return image


def opened(name, model, threads=2):
    pytest.importorskip("torch" if name == "torch" else name.replace("onnx", "onnxruntime"))
    card, weights = find_weights(model)
    return open_engine(name, weights, card.sha256, threads)


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
@pytest.mark.parametrize("name", ["onnx", "ncnn"])
def test_parity_with_torch(file, name):
    reference, engine = opened("torch", file), opened(name, file)
    for shape in SHAPES:
        image = slices(shape)
        expected, found = reference(image), engine(image)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= PARITY / 10


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_the_papers_own_form_is_the_same_function(file):
    pytest.importorskip("torch", reason="needs the train extra")
    from mrlift.networks.engine import paper_engine

    card, weights = find_weights(file)
    image = slices((1, 24, 33))
    difference = paper_engine(weights, card.network)(image) - opened("torch", file)(image)
    assert np.abs(difference).max() <= PARITY / 10


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=15)
def test_streaming_equals_the_whole_slice(height, width, threads, seed):
    """Whatever the strips, and with more threads than cores."""
    image = slices((1, height, width), seed)
    expected = opened("onnx", "mrl-tiny-x2-bicubic")(image)
    found = opened("ncnn", "mrl-tiny-x2-bicubic", threads)(image)
    assert np.abs(found - expected).max() <= PARITY / 10


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 12))
def test_strips_hold_every_row_of_every_layer_once(height, width, units):
    pytest.importorskip("ncnn")
    from mrlift.inference.streaming import strips

    found = strips(height, width, units)
    assert [strip.final for strip in found] == [False] * (len(found) - 1) + [True]
    for layer in range(2 * units + 1):
        edges = [0, *(strip.end[layer] for strip in found)]
        assert edges == sorted(set(edges))
        assert [strip.begin[layer] for strip in found] == edges[:-1]
        assert edges[-1] == height


@pytest.mark.parametrize("name", ["onnx", "ncnn"])
def test_calls_from_several_threads(name):
    engine = opened(name, "mrl-tiny-x2-bicubic", 1)
    images = [slices((1, 60 + k, 40), k) for k in range(4)]
    expected = [engine(image) for image in images]
    found = [None] * 4

    def work(k):
        found[k] = engine(images[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_failure_in_one_strip_ends_the_call(monkeypatch):
    pytest.importorskip("ncnn")
    from mrlift.inference import streaming

    def fail(extractor, name, *, packed=True):
        raise ModelError("too little memory")

    engine = opened("ncnn", "mrl-tiny-x2-bicubic", 2)
    monkeypatch.setattr(streaming, "_extract", fail)
    with pytest.raises(ModelError, match="too little memory"):
        engine(slices((1, 300, 60)))


def test_another_network_is_refused_by_ncnn(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("ncnn")
    from mrlift.inference.streaming import ncnn_engine

    model = onnx.load(FILES[0])
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type = "Sigmoid"
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="not that of a multi-resolution"):
        ncnn_engine(tmp_path / "a.onnx")


def test_unknown_engines_say_what_there_is():
    with pytest.raises(ModelError, match=", ".join(ENGINES)):
        open_engine("tvm", FILES[0], "", 1)


def test_engines_are_made_once():
    assert opened("onnx", "mrl-tiny-x2-bicubic") is opened("onnx", "mrl-tiny-x2-bicubic")


def test_cores_are_those_of_the_affinity():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, mine)
    assert cores() <= len(mine)

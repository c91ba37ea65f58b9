"""Every engine gives what torch gives, for all shipped weights and any size."""

import dataclasses
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlift.errors import ModelError
from mrlift.inference import amx, winograd
from mrlift.inference.choice import ENGINES, PARITY, installed, open_engine
from mrlift.inference.engines import cores
from mrlift.inference.strips import address, strips
from mrlift.inference.zoo import find_weights, shipped_names

TINY = "mrl-tiny-x2-bicubic"
SHAPES = [(1, 1, 1), (1, 5, 9), (2, 37, 50), (1, 90, 31), (1, 130, 8)]


def slices(shape, seed=0):
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    image[:, shape[1] // 2 :] *= 0.2
    return image


CLOSE = {"onnx": PARITY / 10, "ncnn": PARITY / 10}
CLOSE |= {"amx": PARITY / 4, "winograd": PARITY / 4}  # sums of three products; 64 transformed ones
COMPILED = {
    "amx": (amx, amx._Amx, amx.amx_engine),
    "winograd": (winograd, winograd._Winograd, winograd.winograd_engine),
}


def opened(name, model, threads=2):
    if name not in installed():
        pytest.skip(f"the engine {name} is not to be had here")
    return open_engine(name, find_weights(model)[1], threads)


@pytest.mark.parametrize("model", shipped_names())
@pytest.mark.parametrize("name", CLOSE)
def test_parity_with_torch(model, name):
    reference, engine = opened("torch", model), opened(name, model)
    for shape in SHAPES:
        image = slices(shape)
        expected, found = reference(image), engine(image)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= CLOSE[name]


@pytest.mark.parametrize("model", shipped_names())
def test_the_papers_own_form_is_the_same_function(model):
    pytest.importorskip("torch", reason="needs the train extra")
    from mrlift.networks.engine import paper_engine

    card, weights = find_weights(model)
    image = slices((1, 24, 33))
    difference = paper_engine(weights, card.network)(image) - opened("torch", model)(image)
    assert np.abs(difference).max() <= PARITY / 10


@pytest.mark.parametrize("name", ["amx", "winograd", "ncnn"])
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=15)
def test_strips_equal_the_whole_slice(name, height, width, threads, seed):
    """Whatever the strips, and with more threads than cores."""
    image = slices((1, height, width), seed)
    expected = opened("onnx", TINY)(image)
    found = opened(name, TINY, threads)(image)
    assert np.abs(found - expected).max() <= CLOSE[name]


@given(*[st.integers(1, n) for n in (3000, 3000, 12, 5000, 8)])
def test_strips_hold_every_row_of_every_layer_once(height, width, units, area, tile):
    found = strips(height, width, units, area, tile)
    assert [strip.final for strip in found] == [False] * (len(found) - 1) + [True]
    for layer in range(2 * units + 1):
        edges = [0, *(strip.end[layer] for strip in found)]
        assert edges == sorted(set(edges))
        assert [strip.begin[layer] for strip in found] == edges[:-1]
        assert edges[-1] == height


@pytest.mark.parametrize("name", CLOSE)
def test_calls_from_several_threads(name):
    engine = opened(name, TINY, 1)
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
    from mrlift.inference import ncnn

    def fail(extractor, name, *, packed=True):
        raise ModelError("too little memory")

    engine = opened("ncnn", TINY, 2)
    monkeypatch.setattr(ncnn, "_extract", fail)
    with pytest.raises(ModelError, match="too little memory"):
        engine(slices((1, 300, 60)))


@pytest.mark.parametrize("name", COMPILED)
def test_a_failure_in_a_compiled_engine_ends_the_call(name, monkeypatch):
    def fail(*_):
        raise ModelError("too little memory")

    engine = opened(name, TINY, 2)
    monkeypatch.setattr(COMPILED[name][1], "_convolve", fail)
    with pytest.raises(ModelError, match="too little memory"):
        engine(slices((1, 300, 60)))


@pytest.mark.parametrize("threads", [1, 3, 20])
@pytest.mark.parametrize("area", [32, 2048, 32000])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_engines_at_any_size_of_strips(name, monkeypatch, area, threads):
    """More strips than threads, so that the ring of sums goes round several times."""
    module, _, make = COMPILED[name]
    monkeypatch.setattr(module, "AREA", area)
    card, weights = find_weights(TINY)
    opened(name, TINY)  # or skip
    image = slices((2, 150, 33))
    found = make(weights, threads)(image)
    assert np.abs(found - opened("onnx", card.name)(image)).max() <= CLOSE[name]


def test_winograd_gives_the_same_bits_on_any_count_of_threads():
    image = slices((2, 90, 71))
    one, other = (opened("winograd", "mrl-fast-x3-kspace", n)(image) for n in (1, 5))
    np.testing.assert_array_equal(one, other)


def test_winograd_rounds_alike_however_a_slice_is_cut(monkeypatch):
    """Tiles at the same places: what is left is the order in which the deconvolution adds up.

    With tiles that begin where a strip does, these weights differ by 1e-5.
    """
    weights = find_weights("mrl-fast-x4-bicubic")[1]
    image = slices((1, 131, 64))
    whole = opened("winograd", "mrl-fast-x4-bicubic")(image)
    monkeypatch.setattr(winograd, "AREA", 64 * 64 * 30)
    assert np.abs(winograd.winograd_engine(weights)(image) - whole).max() <= 1e-6


POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # of Winograd's F(6, 3), and infinity
FACTORS = (1.0, -2 / 9, -2 / 9, 1 / 90, 1 / 90, 32 / 45, 32 / 45, 1.0)
# A kernel, taken as a polynomial, at each point; the factors are those that samples are spared.
POWERS = [*([p**k for k in range(3)] for p in POINTS), [0, 0, 1]]
KERNELS = np.array(POWERS) * np.array(FACTORS)[:, None]


def test_winograds_three_transforms_make_a_convolution():
    """Those of samples and results as winograd.c has them; six results of three taps, exactly."""
    samples = np.array([
        [1, 0, -5.25, 0, 5.25, 0, -1, 0],
        [0, 1, 1, -4.25, -4.25, 1, 1, 0],
        [0, -1, 1, 4.25, -4.25, -1, 1, 0],
        [0, 0.5, 0.25, -2.5, -1.25, 2, 1, 0],
        [0, -0.5, 0.25, 2.5, -1.25, -2, 1, 0],
        [0, 2, 4, -2.5, -5, 0.5, 1, 0],
        [0, -2, 4, 2.5, -5, -0.5, 1, 0],
        [0, -1, 0, 5.25, 0, -5.25, 0, 1],
    ])  # fmt: skip
    results = np.array([[p**i for p in POINTS] + [float(i == 5)] for i in range(6)])
    for tap in range(3):
        made = results @ np.diag(KERNELS[:, tap]) @ samples
        np.testing.assert_allclose(made, np.eye(6, 8, tap), atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_kernels_at_their_points(reverse):
    """(points, kernels / panel, channels, panel), as the products read them."""
    compiled = winograd.library()
    if compiled is None:
        pytest.skip("the engine winograd is not to be had here")
    channels, panel = 64, compiled.mrlift_winograd_panel()
    taps = np.random.default_rng(0).normal(size=(channels, 3, 3, channels)).astype(np.float32)
    size = compiled.mrlift_winograd_kernels_size(channels)
    points, counter = np.empty(size, np.float32), np.zeros(1, np.int64)
    compiled.mrlift_winograd_kernels(
        address(taps), channels, reverse, address(points), address(counter)
    )
    found = points.reshape(64, -1)[:, : channels**2].reshape(64, -1, channels, panel)
    turned = taps[:, ::-1, ::-1] if reverse else taps
    meant = np.einsum("ai,bj,cijk->abck", KERNELS, KERNELS, turned).reshape(64, channels, -1, panel)
    np.testing.assert_allclose(found, meant.swapaxes(1, 2), rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1))
def test_two_bfloat16_hold_sixteen_bits(values):
    exact = np.array(values, np.float32)
    hi, lo = (amx._widened(half).astype(np.float64) for half in amx.split(exact))
    assert np.all(np.abs(hi + lo - exact) <= np.abs(exact) * 2.0**-16 + 1e-38)


@pytest.mark.parametrize("name", COMPILED)
def test_where_an_engine_is_not_built_there_is_no_such_engine(name, monkeypatch, tmp_path):
    module, _, make = COMPILED[name]
    monkeypatch.setattr(module, "__file__", str(tmp_path / "none.py"))
    module.library.cache_clear()
    try:
        assert name not in installed()
        with pytest.raises(ModelError, match="needs a processor with"):
            make(find_weights(TINY)[1])
    finally:
        module.library.cache_clear()


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_engines_refuse_channels_that_do_not_fill_their_blocks(name, monkeypatch):
    module, _, make = COMPILED[name]
    opened(name, TINY)  # or skip
    whole = module.parts(module.read_graph(find_weights(TINY)[1]))
    narrow = dataclasses.replace(whole, head=tuple(array[:24] for array in whole.head))
    monkeypatch.setattr(module, "parts", lambda _: narrow)
    with pytest.raises(ModelError, match="multiple of"):
        make(find_weights(TINY)[1])


def test_another_network_is_refused_by_ncnn():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("ncnn")
    from mrlift.inference.ncnn import ncnn_engine

    model = onnx.load_from_string(find_weights(TINY)[1])
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type = "Sigmoid"
    with pytest.raises(ModelError, match="not that of a multi-resolution"):
        ncnn_engine(model.SerializeToString())


def test_unknown_engines_say_what_there_is():
    with pytest.raises(ModelError, match=", ".join(ENGINES)):
        open_engine("tvm", b"", 1)


def test_engines_are_made_once():
    assert opened("onnx", TINY) is opened("onnx", TINY)


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

"""Convolutions with fewer multiplications give what PyTorch's give, and so do their gradients."""

import os
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from runs import recipe, run_in  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mrlift.inference.winograd import library  # noqa: E402
from mrlift.networks import NETWORKS  # noqa: E402
from mrlift.training import winograd  # noqa: E402
from mrlift.training.winograd import WinogradConv2d, quicken  # noqa: E402

pytestmark = pytest.mark.skipif(library() is None, reason="winograd.c was not compiled")

shapes = st.tuples(
    st.integers(1, 3), st.sampled_from([32, 64, 128, 192]), st.integers(1, 20), st.integers(1, 20)
)


def convolution(channels: int, *, seed: int = 0, **options: object) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(channels, channels, 3, padding=1, **options)


def quick(layer: nn.Conv2d) -> nn.Conv2d:
    assert quicken(layer) == 1
    return layer


def passes(layer: nn.Module, images: Tensor, back: Tensor) -> list[Tensor]:
    """The result, and the gradients of images, kernels and bias for that of the result, `back`."""
    images = images.clone().requires_grad_()
    made = layer(images)
    made.backward(back)
    return [made.detach(), images.grad, layer.weight.grad, layer.bias.grad]


@given(shapes, st.integers(0, 99), st.booleans())
@settings(max_examples=40, deadline=None)
def test_results_and_gradients_are_those_of_double_precision(
    shape: tuple[int, int, int, int], seed: int, channels_last: bool
) -> None:
    exact = convolution(shape[1], seed=seed).double()
    layer = convolution(shape[1], seed=seed)
    images, back = torch.randn(shape), torch.randn(shape)
    truth = passes(exact, images.double(), back.double())
    if channels_last:
        layer.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    for made, true in zip(passes(quick(layer), images, back), truth, strict=True):
        assert made.shape == true.shape
        assert (made - true).abs().max() < 1e-4 * true.abs().max()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    images, back = torch.randn(2, 64, 31, 17), torch.randn(2, 64, 31, 17)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(passes(quick(convolution(64)), images, back)[:3])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_a_second_pass_adds_to_the_gradient() -> None:
    """Nothing that is handed out lies in the memory that is kept from call to call."""
    layer = quick(convolution(32).to(memory_format=torch.channels_last))
    alone = quick(convolution(32).to(memory_format=torch.channels_last))
    back = torch.randn(1, 32, 9, 9)
    first, second = torch.randn(1, 32, 9, 9), torch.randn(1, 32, 9, 9)
    once = passes(layer, first, back)[2].clone()
    both = passes(layer, second, back)[2]
    assert torch.allclose(both, once + passes(alone, second, back)[2], atol=1e-5)


def test_gradients_that_nobody_needs_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = quick(convolution(32))
    with monkeypatch.context() as patched:
        patched.setattr(winograd, "_adjoint", None)
        layer(torch.randn(1, 32, 8, 8)).sum().backward()  # the images need none
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    images = torch.randn(1, 32, 8, 8, requires_grad=True)
    monkeypatch.setattr(winograd, "_kernel_gradient", None)
    layer(images).sum().backward()
    assert images.grad is not None


def test_a_gradient_of_the_gradient_is_refused() -> None:
    images = torch.randn(1, 32, 8, 8, requires_grad=True)
    made = quick(convolution(32))(images)
    (first,) = torch.autograd.grad(made.square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_parameters_and_their_names_stay() -> None:
    network = NETWORKS["mrl"](2, units=2, channels=32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert quicken(network) == 4  # not the first layer, which has one channel
    assert quicken(network) == 0  # they are quick already
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 64, 3, padding=1),
        nn.Conv2d(48, 48, 3, padding=1),
        nn.Conv2d(96, 96, 3, padding=1),
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=1, bias=False),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_layers_are_left_alone(layer: nn.Conv2d) -> None:
    assert quicken(layer) == 0
    assert type(layer) is nn.Conv2d


def test_other_precision_is_left_to_pytorch() -> None:
    layer, images = quick(convolution(32)), torch.randn(1, 32, 8, 8)
    assert isinstance(layer, WinogradConv2d)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(images).dtype == torch.bfloat16
    assert layer(images[0]).shape == images[0].shape
    assert layer.double()(images.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 64, 8, 8), torch.zeros(1, 32, 8), torch.zeros(1, 32, 8, 8).double()]
)
def test_what_does_not_fit_is_refused(images: Tensor) -> None:
    with pytest.raises(RuntimeError):
        quick(convolution(32))(images)


def test_what_is_not_finite_is_not_hidden() -> None:
    images = torch.randn(1, 32, 8, 8)
    images[0, 3, 4, 4] = torch.nan
    assert not torch.relu(quick(convolution(32))(images)).isfinite().all()


def test_memory_does_not_follow_the_default_precision() -> None:
    images, back = torch.randn(1, 32, 9, 9), torch.randn(1, 32, 9, 9)
    usual, other = quick(convolution(32)), quick(convolution(32))
    expected = passes(usual, images, back)
    torch.set_default_dtype(torch.float64)
    try:
        found = passes(other, images, back)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, two in zip(expected[:3], found[:3], strict=True):
        assert torch.equal(one, two)


def test_a_child_of_this_process_can_use_it() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        layer, images = quick(convolution(32)), torch.randn(1, 32, 13, 13)
        expected = layer(images).detach()
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(layer(images).detach(), expected) else 1)
        deadline = time.monotonic() + 60
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        if ended == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended == (child, 0)
    finally:
        torch.set_num_threads(before)


def test_a_run_trains_with_it(tmp_path: Path) -> None:
    """As the same run does with PyTorch's convolutions, but for rounding."""
    settings = recipe(network={"channels": 32}, lr_pixels=4 * 144 * 3)
    run = run_in(tmp_path / "quick", settings)
    plain = run_in(tmp_path / "plain", settings)
    for network in (plain.network, plain.average):
        for module in network.modules():
            if isinstance(module, WinogradConv2d):
                module.__class__ = nn.Conv2d
    assert isinstance(run.network.units[0].first, WinogradConv2d)
    for _ in range(3):
        assert run.advance() == pytest.approx(plain.advance(), rel=1e-3)
    assert run.validate() == pytest.approx(plain.validate(), abs=1e-3)

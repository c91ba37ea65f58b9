"""The paper's network: its numbers, its equations, and what an untrained one does."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from mrlift.networks.layers import bicubic_kernel  # noqa: E402
from mrlift.networks.mrl import MRL  # noqa: E402
from mrlift.resampling import bicubic_up, hr_size  # noqa: E402


def small(scale=2, **options):
    torch.manual_seed(0)
    network = MRL(scale, **({"units": 3, "channels": 6} | options))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_the_papers_numbers():
    network = MRL(2, grid="paper")
    assert count(network) == 2_668_251
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(torch.nn.Conv2d) == 19
    assert kinds.count(torch.nn.ConvTranspose2d) == 1
    assert network.deconv.kernel_size == (9, 9)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(c.weight.numel() for c in convolutions) == 2_655_360  # multiply-adds per LR pixel


def test_shared_units_are_drrns_reading():
    assert count(MRL(2, grid="paper", shared_units=True)) == 306_907


@pytest.mark.parametrize(("scale", "lr", "hr"), [(2, 14, 27), (3, 10, 28), (4, 8, 29)])
def test_paper_grid_sizes(scale, lr, hr):
    assert hr_size(lr, scale, "paper") == hr
    out = small(scale, grid="paper")(torch.zeros(1, 1, lr, lr))
    assert out.shape == (1, 1, hr, hr)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edges_grid_sizes(scale):
    assert small(scale)(torch.zeros(2, 1, 5, 7)).shape == (2, 1, 5 * scale, 7 * scale)


def test_kernel_that_cannot_give_the_grid_is_refused():
    with pytest.raises(ValueError, match="9x9 kernel cannot give the edges grid at x2"):
        MRL(2, kernel=9)


@pytest.mark.parametrize("shared", [False, True])
def test_equations_by_hand(shared):
    """Eq. 1-4 with plain functional calls on the network's own weights."""
    f = torch.nn.functional
    network = small(units=3, shared_units=shared)
    x = torch.rand(2, 1, 9, 8)

    def convolve(layer, u):
        return f.conv2d(u, layer.weight, layer.bias, padding=1)

    def deconvolve(u, channels, bias):
        return f.conv_transpose2d(u, network.deconv.weight[channels], bias, stride=2, padding=3)

    u_0 = convolve(network.head, x)  # eq. 1
    u, y = u_0, []
    for i in range(3):
        unit = network.units[0 if shared else i]
        u = u_0 + convolve(unit.second, f.relu(convolve(unit.first, f.relu(u))))  # eq. 2
        y.append(
            deconvolve(x, slice(6, 7), None) + deconvolve(u, slice(0, 6), network.deconv.bias)
        )  # eq. 3
    y_hat = sum(w * y_i for w, y_i in zip(network.weights, y, strict=True))  # eq. 4
    ours, each = network.outputs(x)
    torch.testing.assert_close(each, torch.cat(y, dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, y_hat, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("upsampling", ["multi", "double", "single"])
@pytest.mark.parametrize("grid", ["edges", "paper"])
def test_fused_sum_equals_the_sum_of_deconvolutions(upsampling, grid):
    network = small(units=9, grid=grid, upsampling=upsampling)
    x = torch.rand(1, 1, 12, 11)
    y_hat, each = network.outputs(x)
    torch.testing.assert_close(network(x), y_hat, atol=2e-5, rtol=1e-5)
    assert each.shape[1] == (9 if upsampling == "multi" else 0)


def test_ablations_are_what_they_say():
    x = torch.rand(1, 1, 8, 8)
    double, single = small(upsampling="double"), small(upsampling="single")
    assert not hasattr(double, "weights")
    assert double.deconv.weight.shape[0] == 7
    assert single.deconv.weight.shape[0] == 6
    *_, last = single.features(x)
    torch.testing.assert_close(single(x), single.deconv(last))
    *_, last = double.features(x)
    torch.testing.assert_close(double(x), double.deconv(torch.cat([last, x], 1)))


@pytest.mark.parametrize(
    ("grid", "scale"), [("edges", 2), ("edges", 3), ("edges", 4), ("paper", 2)]
)
@pytest.mark.parametrize("upsampling", ["multi", "double"])
def test_untrained_network_is_bicubic_interpolation(grid, scale, upsampling):
    """Where the kernel holds all taps; two LR samples at the border see another border rule."""
    network = MRL(scale, units=3, channels=6, grid=grid, upsampling=upsampling)
    image = np.random.default_rng(0).random((14, 17)).astype(np.float32)
    ours = network(torch.from_numpy(image)[None, None]).detach().numpy()[0, 0]
    inner = slice(2 * scale, -2 * scale)
    np.testing.assert_allclose(
        ours[inner, inner], bicubic_up(image, scale, grid)[inner, inner], atol=1e-6
    )


@pytest.mark.parametrize("scale", [3, 4])
def test_smaller_kernels_still_keep_constants(scale):
    kernel = bicubic_kernel(scale, "paper", 9)
    for i in range(scale):
        for j in range(scale):
            assert kernel[i::scale, j::scale].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_receptive_field_is_exact(scale):
    """Over the samples that belong to one LR sample, gradients reach just as far as it says."""
    network = small(scale, units=2, channels=4)
    reach = 0
    for row in range(scale):
        x = torch.rand(1, 1, 31, 31, requires_grad=True)
        network(x)[0, 0, 15 * scale + row, 15 * scale].backward()
        reach = max(reach, (torch.nonzero(x.grad[0, 0])[:, 0] - 15).abs().max().item())
    assert reach == network.receptive_field


def test_other_scales_are_refused():
    with pytest.raises(ValueError, match="2, 3 or 4"):
        MRL(5)

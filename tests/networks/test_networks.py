"""The networks of the tables: layers and parameters as their papers count them, sizes, grids."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mrlift.errors import ConfigError, ModelError  # noqa: E402
from mrlift.networks import NETWORKS  # noqa: E402
from mrlift.networks.layers import Bicubic  # noqa: E402
from mrlift.networks.span import ReparameterisedConv  # noqa: E402
from mrlift.resampling import bicubic_up, hr_size  # noqa: E402
from mrlift.training.config import recipe_from  # noqa: E402
from mrlift.training.growth import begin_from  # noqa: E402
from mrlift.training.loop import build_network  # noqa: E402

PAIRS = [(n, s) for n in NETWORKS for s in (2, 3, 4) if n != "fscwn" or s == 2]


def count(network):
    return sum(p.numel() for p in network.parameters())


def kinds(network):
    return [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0])
        for m in network.modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]


class TestLayerLists:
    """Numbers that the papers print, or that follow from the layers they list."""

    @pytest.mark.parametrize(
        ("name", "scale", "options", "parameters"),
        [
            ("srcnn", 2, {}, 8_129),  # 8,032 weights in the paper's count, and 97 biases
            ("espcn", 2, {}, 21_284),
            ("espcn", 3, {}, 22_729),
            ("fsrcnn", 2, {}, 12_809),  # 12,464 weights, 172 slopes of PReLU, 173 biases
            ("de-cnn", 2, {}, 666_003),
            ("de-cnn", 2, {"depth": 7}, 185_939),
            ("fscwn", 2, {}, 5_016_001),
        ],
    )
    def test_parameters(self, name, scale, options, parameters):
        assert count(NETWORKS[name](scale, **options)) == parameters

    def test_srcnn_is_9_1_5(self):
        assert [k[1:] for k in kinds(NETWORKS["srcnn"](3))] == [(1, 64, 9), (64, 32, 1), (32, 1, 5)]

    def test_espcn_is_5_3_3(self):
        layers = [k[1:] for k in kinds(NETWORKS["espcn"](3))]
        assert layers == [(1, 64, 5), (64, 32, 3), (32, 9, 3)]

    def test_fsrcnn_has_7_convolutions_and_a_deconvolution(self):
        """As the paper of the multi-resolution network says of it in section 3.4."""
        layers = kinds(NETWORKS["fsrcnn"](2))
        assert [k[3] for k in layers] == [5, 1, 3, 3, 3, 3, 1, 9]
        assert [k[0] for k in layers].count("ImageDeconv") == 1
        network = NETWORKS["fsrcnn"](2)
        weights = sum(p.numel() for p in network.parameters() if p.dim() == 4)
        assert weights == 12_464

    @pytest.mark.parametrize(("depth", "convolutions"), [(20, 20), (7, 7)])
    def test_de_cnn_readings(self, depth, convolutions):
        layers = kinds(NETWORKS["de-cnn"](2, depth=depth))
        assert len(layers) == convolutions + 1
        assert layers[0] == ("ImageDeconv", 1, 1, 9)

    def test_fscwn_grows_wider_and_pools(self):
        network = NETWORKS["fscwn"](2)
        assert [b.first.out_channels for b in network.blocks] == [64] * 3 + [128] * 3 + [256] * 3
        seen = []
        network.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
        network(torch.zeros(1, 1, 8, 6))
        assert seen[0][2:] == (8, 6)  # interpolated to 16 x 12, and pooled

    @pytest.mark.parametrize(
        ("scale", "literature"), [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)]
    )
    def test_edsr_baseline_in_colour_is_the_literatures(self, scale, literature):
        """1.37, 1.55 and 1.52 M in tables of super-resolution; ours has one channel, not three."""
        more = 2 * 9 * 64 + 2 * (9 * 64 + 1)
        assert count(NETWORKS["edsr"](scale)) + more == literature

    @pytest.mark.parametrize(
        ("channels", "scale", "thousands"), [(52, 2, 481), (52, 4, 498), (48, 2, 411), (48, 4, 426)]
    )
    def test_span_in_colour_is_the_literatures(self, channels, scale, thousands):
        """Of the convolutions as merged for inference; SPAN has 52 channels, SPAN-S 48."""
        network = NETWORKS["span"](scale, channels=channels).eval()
        merged = [
            w.numel()
            for m in network.modules()
            if isinstance(m, ReparameterisedConv)
            for w in m.merged()
        ]
        plain = count(network.fuse) + count(network.up)
        more = 2 * 9 * channels + 2 * scale**2 * (9 * channels + 1)
        assert round((sum(merged) + plain + more) / 1000) == thousands


class TestSizesAndGrids:
    @pytest.mark.parametrize(("name", "scale"), PAIRS)
    def test_edges_grid(self, name, scale):
        with torch.no_grad():
            made = NETWORKS[name](scale)(torch.rand(2, 1, 9, 11))
        assert made.shape == (2, 1, 9 * scale, 11 * scale)

    @pytest.mark.parametrize("name", ["srcnn", "fsrcnn", "de-cnn", "mrl"])
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_paper_grid(self, name, scale):
        with torch.no_grad():
            made = NETWORKS[name](scale, grid="paper")(torch.rand(1, 1, 9, 11))
        assert made.shape[2:] == (hr_size(9, scale, "paper"), hr_size(11, scale, "paper"))

    @pytest.mark.parametrize("name", ["espcn", "span", "edsr", "fscwn"])
    def test_others_have_the_edges_grid_only(self, name):
        with pytest.raises(ConfigError, match="edges grid"):
            build_network(recipe_from({"network": {"name": name, "grid": "paper"}}).network)

    @pytest.mark.parametrize(("name", "scale"), [("fscwn", 3), ("srcnn", 5), ("edsr", 8)])
    def test_other_scales_are_refused(self, name, scale):
        with pytest.raises(ValueError, match="scale must be"):
            NETWORKS[name](scale)

    @pytest.mark.parametrize("grid", ["edges", "paper"])
    @pytest.mark.parametrize("scale", [2, 3, 4])
    @given(height=st.integers(2, 12), width=st.integers(2, 12), seed=st.integers(0, 99))
    def test_interpolation_is_that_of_resampling(self, grid, scale, height, width, seed):
        """To the last border sample, so that what networks see is what scores call bicubic."""
        image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
        ours = Bicubic(scale, grid)(torch.from_numpy(image)[None, None])[0, 0].numpy()
        np.testing.assert_allclose(ours, bicubic_up(image, scale, grid), atol=2e-6)

    @pytest.mark.parametrize(
        ("name", "grid"), [("de-cnn", "edges"), ("de-cnn", "paper"), ("fscwn", "edges")]
    )
    def test_untrained_skip_networks_are_bicubic(self, name, grid):
        """At x2, where 9x9 taps hold the kernel; a border of two LR samples has another rule."""
        image = np.random.default_rng(0).random((14, 17), dtype=np.float32)
        with torch.no_grad():
            ours = NETWORKS[name](2, grid=grid)(torch.from_numpy(image)[None, None])[0, 0].numpy()
        inner = slice(4, -4)
        expected = bicubic_up(image, 2, grid)
        np.testing.assert_allclose(ours[inner, inner], expected[inner, inner], atol=1e-6)


class TestMixedPrecision:
    @pytest.mark.parametrize(("name", "scale"), PAIRS)
    def test_an_image_keeps_its_precision(self, name, scale):
        """A small change of the slice shows in the result, as no image in bfloat16 would let it."""
        torch.manual_seed(0)
        network = NETWORKS[name](scale).eval()
        x = 0.5 + 0.001 * torch.rand(1, 1, 12, 12)
        read = []
        first = next(m for m in network.modules() if _reads_image(m))
        first.register_forward_hook(
            lambda _, given, made: read.append((given[0].dtype, made.dtype))
        )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            made = _see(network, x)
        assert read[0] == (torch.float32, torch.float32)
        assert made.dtype == torch.float32


def _reads_image(module):
    return getattr(module, "in_channels", 0) == 1 or (
        isinstance(module, ReparameterisedConv) and module.skip.in_channels == 1
    )


def _see(network, x):
    return network.outputs(x)[0] if hasattr(network, "outputs") else network(x)


class TestSpan:
    def test_merged_convolution_equals_its_parts(self):
        """Where the 1x1 convolutions before it see no border, all are one 3x3 kernel."""
        layer = ReparameterisedConv(3, 4)
        x = torch.rand(1, 3, 9, 9)
        by_parts = (
            layer.parts[2](layer.parts[1](layer.parts[0](x))) + layer.skip(x)[..., 1:-1, 1:-1]
        )
        torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], by_parts, atol=1e-5, rtol=1e-5)

    def test_inference_gives_what_training_sees(self):
        network = NETWORKS["span"](2, channels=8, blocks=2)
        x = torch.rand(1, 1, 8, 8)
        with torch.no_grad():
            trained = network(x)
            torch.testing.assert_close(network.eval()(x), trained)
            network.train()
            network.head.skip.weight.add_(1)
            assert not torch.allclose(network(x), trained)  # not the kernel of before


class TestStarts:
    @pytest.mark.parametrize("name", ["srcnn", "espcn", "fsrcnn", "de-cnn", "span", "edsr"])
    def test_layers_of_equal_shape_are_taken_over(self, name):
        """Not the taps of a deconvolution, which lie elsewhere at another scale."""
        trained, fresh = NETWORKS[name](2), NETWORKS[name](4)
        before = {k: v.clone() for k, v in fresh.state_dict().items()}
        begin_from(fresh, trained)
        known = trained.state_dict()
        for key, now in fresh.state_dict().items():
            same = key in known and known[key].shape == now.shape and "deconv" not in key
            assert torch.equal(now, known[key] if same else before[key])

    def test_at_the_same_scale_all_is_taken_over(self):
        trained, fresh = NETWORKS["de-cnn"](3, depth=4), NETWORKS["de-cnn"](3, depth=4)
        begin_from(fresh, trained)
        x = torch.rand(1, 1, 8, 8)
        torch.testing.assert_close(fresh(x), trained(x))

    def test_another_network_is_refused(self):
        with pytest.raises(ModelError, match="SRCNN cannot start a network ESPCN"):
            begin_from(NETWORKS["espcn"](2), NETWORKS["srcnn"](2))

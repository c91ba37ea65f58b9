"""Starting a large network from a small one."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from runs import TINY, recipe, run_in  # noqa: E402

from mrlift.errors import ModelError  # noqa: E402
from mrlift.training.checkpoint import load_checkpoint  # noqa: E402
from mrlift.training.config import recipe_from  # noqa: E402
from mrlift.training.export import export  # noqa: E402
from mrlift.training.growth import grow  # noqa: E402
from mrlift.training.loop import build_network  # noqa: E402


class TestGrowth:
    @pytest.mark.parametrize("scale", [2, 3])
    def test_growing_keeps_the_function(self, scale):
        settings = {"scale": scale, "units": 2, "channels": 6}
        small = build_network(recipe_from({"network": settings}).network)
        with torch.no_grad():
            for p in small.parameters():
                p.add_(0.1 * torch.randn_like(p))
        large = build_network(
            recipe_from({"network": settings | {"units": 4, "channels": 10}}).network
        )
        grow(large, small)
        x = torch.rand(1, 1, 12, 13)
        torch.testing.assert_close(large(x), small(x), atol=2e-5, rtol=1e-5)
        # What is new can learn: every parameter has a gradient.
        y_hat, each = large.outputs(x)
        (y_hat.square().sum() + each.square().sum()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in large.parameters())

    def test_another_scale_keeps_the_features_and_starts_bicubic(self):
        small = build_network(recipe_from({"network": TINY["network"]}).network)
        large = build_network(recipe_from({"network": TINY["network"] | {"scale": 4}}).network)
        fresh = large.deconv.weight.clone()
        grow(large, small)
        assert torch.equal(large.deconv.weight, fresh)
        assert torch.equal(large.head.weight, small.head.weight)

    def test_a_larger_one_does_not_fit(self):
        tiny = build_network(recipe_from({"network": TINY["network"]}).network)
        large = build_network(recipe_from({"network": {"units": 3, "channels": 16}}).network)
        with pytest.raises(ModelError, match="cannot start"):
            grow(tiny, large)

    @pytest.mark.parametrize(
        "kind",
        [
            {"upsampling": "single"},
            {"upsampling": "double"},
            {"shared_units": True},
            {"grid": "paper"},
        ],
    )
    def test_other_kinds_do_not_fit_and_wider_ones_do(self, kind):
        plain = build_network(recipe_from({"network": TINY["network"]}).network)
        other = build_network(recipe_from({"network": TINY["network"] | kind}).network)
        with pytest.raises(ModelError, match="cannot start"):
            grow(other, plain)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(0.1 * torch.randn_like(p))
        wider = build_network(
            recipe_from({"network": TINY["network"] | kind | {"channels": 12}}).network
        )
        grow(wider, other)
        x = torch.rand(1, 1, 12, 13)
        torch.testing.assert_close(wider(x), other(x), atol=2e-5, rtol=1e-5)

    def test_the_card_tells_where_weights_came_from(self, tmp_path):
        first = run_in(tmp_path / "first")
        first.train()
        second = run_in(tmp_path / "second", start=tmp_path / "first")
        assert second.validate() == pytest.approx(first.validate(), abs=1e-4)
        second.train()
        card = export(load_checkpoint(tmp_path / "second"), tmp_path / "w.onnx")
        assert card.training["start"] == [{"name": "tiny", "lr_pixels": 6912}]
        assert card.training["lr_pixels_seen"] == 2 * 6912
        third = run_in(tmp_path / "third", start=tmp_path / "w.onnx")
        assert third.validate() == pytest.approx(second.validate(), abs=0.02)  # float16
        assert third.facts["start"] == [{"name": "tiny", "lr_pixels": 6912}] * 2

    def test_shipped_weights_are_a_start(self, tmp_path):
        network = {"units": 4, "channels": 32}
        run = run_in(tmp_path / "r", recipe(network=network), start=Path("mrl-tiny-x2-bicubic"))
        assert run.facts["start"][-1]["name"] == "mrl-tiny-x2-bicubic"
        with pytest.raises(ModelError, match="no-such"):
            run_in(tmp_path / "s", recipe(network=network), start=Path("no-such"))

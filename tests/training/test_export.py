"""Weights that run without torch."""

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

import numpy as np  # noqa: E402
from runs import run_in  # noqa: E402

import mrlift  # noqa: E402
from mrlift.training.checkpoint import load_checkpoint  # noqa: E402
from mrlift.training.export import GAIN, export  # noqa: E402
from mrlift.training.loop import build_network  # noqa: E402


class TestExport:
    @pytest.fixture
    def trained(self, tmp_path):
        run = run_in(tmp_path / "run")
        run.train()
        return run

    def test_onnx_equals_torch_with_rounded_weights(self, trained, tmp_path):
        card = export(load_checkpoint(trained.folder), tmp_path / "w.onnx")
        network = build_network(trained.recipe.network)
        network.load_state_dict(
            {k: v.half().float() for k, v in trained.average.state_dict().items()}
        )
        model = mrlift.load_model(tmp_path / "w.onnx")
        for shape in ((1, 9, 40), (3, 33, 21)):
            x = np.random.default_rng(0).random(shape, dtype=np.float32)
            expected = network(torch.from_numpy(x)[:, None])[:, 0].detach().numpy()
            assert np.abs(model.engine(x) - expected).max() <= 1e-5
        assert card.spacing == (0.9, 0.9)
        gain = pytest.approx(trained.history[-1]["gain"], abs=1e-3)
        assert card.metrics == {GAIN: gain, f"{GAIN}: phantom, T1": gain}
        assert card.data == ("phantom (CC0)",)
        assert card.training["contrasts"] == ["T1"]
        assert model.card == card

    def test_files_hold_float16_and_no_paths(self, trained, tmp_path):
        export(load_checkpoint(trained.folder), tmp_path / "w.onnx")
        content = (tmp_path / "w.onnx").read_bytes()
        parameters = sum(p.numel() for p in trained.network.parameters())
        assert len(content) < 2 * parameters + 12_000
        assert b"/src/" not in content
        assert b"site-packages" not in content

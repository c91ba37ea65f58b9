"""Recipes, patches, the loop, growth and export."""

import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from conftest import ROOT  # noqa: E402
from phantoms import head, head_volume  # noqa: E402

import mrlift  # noqa: E402
from mrlift.errors import ConfigError, InputError, ModelError  # noqa: E402
from mrlift.resampling import bicubic_down  # noqa: E402
from mrlift.training.checkpoint import load_checkpoint  # noqa: E402
from mrlift.training.config import load_recipe, recipe_from  # noqa: E402
from mrlift.training.export import export  # noqa: E402
from mrlift.training.growth import grow  # noqa: E402
from mrlift.training.loop import DivergenceError, Run, build_network, learning_rate  # noqa: E402
from mrlift.training.patches import PatchSampler  # noqa: E402
from mrlift.training.slices import Slice, load_slices  # noqa: E402

TINY = {
    "network": {"units": 2, "channels": 8},
    "data": {"lr_patch": 12, "validation": ["b"]},
    "training": {"batch": 4, "lr_pixels": 4 * 12 * 12 * 12, "learning_rate": 2e-3, "ema": 0.5},
    "card": {"name": "tiny", "licence": "CC0", "sources": ["phantom"]},
}


def recipe(**training):
    return recipe_from(TINY | {"training": TINY["training"] | training})


def phantom_slices(count=3):
    images = [
        (head((64, 72, 1), seed=s, peak=1.0)[..., 0]).astype(np.float32) for s in range(count)
    ]
    return [Slice(image, "s", "a", 0.9) for image in images]


def run_in(folder, settings=None, **options):
    slices = phantom_slices()
    return Run(settings or recipe(), slices, slices[:1], folder, **options)


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


class TestRecipes:
    @pytest.mark.parametrize(
        "path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem
    )
    def test_every_recipe_is_complete_and_builds(self, path):
        settings = load_recipe(path)
        build_network(settings.network)
        assert settings.card.sources
        assert settings.data.validation

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"trainning": {}}, "Did you mean 'training'"),
            ({"training": {"learning_rat": 1}}, "Did you mean 'learning_rate'"),
            ({"training": {"batch": "8"}}, "expected int, found str"),
            ({"training": {"batch": True}}, "expected int, found bool"),
            ({"network": {"grid": "corner"}}, "expected one of 'edges', 'paper'"),
            ({"network": {"scale": 5}}, "must be 2, 3 or 4"),
            ({"network": 3}, "expected a table"),
            ({"training": {"batch": 0}}, "must be positive"),
            ({"training": {"warmup": 1.0}}, r"in \[0, 1\)"),
            ({"data": {"rescale": ["a"]}}, "expected float, found str"),
            ({"data": {"rescale": [3]}}, "factors"),
            ({"data": {"exclude": {"a": [1]}}}, "expected 2 values, found 1"),
        ],
    )
    def test_mistakes_are_named(self, table, message):
        with pytest.raises(ConfigError, match=message):
            recipe_from(table)

    def test_files_that_are_no_recipes(self, tmp_path):
        with pytest.raises(ConfigError, match="Cannot read"):
            load_recipe(tmp_path / "none.toml")
        (tmp_path / "a.toml").write_text("a = = 3")
        with pytest.raises(ConfigError, match="not valid TOML"):
            load_recipe(tmp_path / "a.toml")

    def test_whole_numbers_are_numbers(self):
        assert recipe_from({"training": {"lr_pixels": 1000}}).training.lr_pixels == 1000.0


class TestPatches:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("grid", ["edges", "paper"])
    def test_lr_is_the_degraded_hr(self, scale, grid):
        """The LR patch is the part of the reduced whole that lies on the HR patch."""
        settings = recipe_from(
            {
                "network": {"scale": scale, "grid": grid},
                "data": {"lr_patch": 8},
                "training": {"batch": 6},
            }
        )
        lr, hr = PatchSampler(phantom_slices(), settings).draw(3)
        assert lr.shape == (6, 1, 8, 8)
        side = 8 * scale if grid == "edges" else 7 * scale + 1
        assert hr.shape == (6, 1, side, side)
        inner = slice(3, -3)  # where the kernel sees nothing beyond the HR patch
        expected = bicubic_down(hr, scale, grid)[..., inner, inner]
        np.testing.assert_allclose(lr[..., inner, inner], expected, atol=1e-6)

    def test_batches_depend_on_seed_and_step_only(self):
        draw = PatchSampler(phantom_slices(), recipe()).draw
        again = PatchSampler(phantom_slices(), recipe()).draw
        np.testing.assert_array_equal(draw(5)[0], again(5)[0])
        assert not np.array_equal(draw(5)[0], draw(6)[0])
        other = PatchSampler(phantom_slices(), recipe(seed=1)).draw
        assert not np.array_equal(draw(5)[0], other(5)[0])

    def test_patches_are_mostly_tissue(self):
        image = np.zeros((400, 400), np.float32)
        image[100:250, 100:250] = 1
        _, hr = PatchSampler([Slice(image, "s", "a", 1.0)], recipe(batch=64)).draw(0)
        assert np.mean(hr > 0.1) > 0.5

    def test_slices_that_are_too_small_for_a_patch(self):
        with pytest.raises(InputError, match="smaller than"):
            PatchSampler([Slice(np.ones((20, 20), np.float32), "s", "a", 1.0)], recipe_from({}))


class TestSlices:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("a_t1", "b_t1"):
            mrlift.save(head_volume((40, 48, 6)), tmp_path / f"{name}.nii.gz")
        return tmp_path

    def test_patients_are_kept_apart(self, folder):
        training, validation = load_slices(folder, recipe().data)
        assert {s.patient for s in training} == {"a"}
        assert {s.patient for s in validation} == {"b"}
        assert len(training) == len(validation) == 6
        assert training[0].image.dtype == np.float32
        assert 0.9 < training[0].image.max() < 1.3

    def test_excluded_slices_and_sizes(self, folder):
        data = dataclasses.replace(recipe().data, exclude={"a_t1": (1, 5)}, rescale=(1.0, 0.5))
        training, _ = load_slices(folder, data)
        assert [s.image.shape for s in training] == [(40, 48), (20, 24)] * 2
        assert [s.spacing for s in training] == pytest.approx([0.9, 1.8] * 2)

    def test_air_is_left_out(self, tmp_path):
        voxels = head((40, 48, 6))
        voxels[..., :2] = 0
        for name in ("a", "b"):
            mrlift.save(mrlift.Volume(voxels, np.eye(4)), tmp_path / f"{name}.nii")
        training, _ = load_slices(tmp_path, recipe().data)
        assert len(training) == 4

    def test_nothing_to_validate_on(self, folder):
        (folder / "b_t1.nii.gz").unlink()
        with pytest.raises(InputError, match="validate"):
            load_slices(folder, recipe().data)


class TestLoop:
    def test_it_learns(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(lr_pixels=4 * 144 * 300, learning_rate=1e-2))
        assert run.validate() == pytest.approx(0, abs=0.2)  # bicubic but for the border
        assert run.train()
        assert run.validate() > 0.3

    def test_interrupted_and_resumed_is_bit_identical(self, tmp_path):
        whole = run_in(tmp_path / "whole")
        whole.train()
        calls = iter([False] * 4 + [True] * 9)
        part = run_in(tmp_path / "part")
        assert not part.train(stop=lambda: next(calls))
        rest = run_in(tmp_path / "part", resume=True)
        assert 0 < rest.step < rest.steps
        assert rest.train()
        assert torch.equal(weights(whole), weights(rest))
        average = [torch.cat([p.flatten() for p in r.average.parameters()]) for r in (whole, rest)]
        assert torch.equal(*average)

    def test_divergence_stops_with_the_last_good_state(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(learning_rate=1e30, clip=1e30))
        run.save()
        with pytest.raises(DivergenceError, match="learning_rate"):
            run.train()
        state = load_checkpoint(tmp_path / "r")
        assert all(torch.isfinite(v).all() for v in state.network.values())

    def test_resuming_with_another_recipe_is_refused(self, tmp_path):
        run_in(tmp_path / "r").train()
        for other in (
            recipe(batch=8),
            recipe_from(TINY | {"network": {"units": 3, "channels": 8}}),
        ):
            with pytest.raises(ConfigError, match="begun with"):
                run_in(tmp_path / "r", other, resume=True)

    def test_the_paper_grid_trains(self, tmp_path):
        run = run_in(
            tmp_path / "r", recipe_from(TINY | {"network": TINY["network"] | {"grid": "paper"}})
        )
        assert run.train()
        assert run.validate() > -3  # the border is new to bicubic, and twelve steps teach little

    def test_squared_loss_and_sgd(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(optimiser="sgd", loss="squared", learning_rate=1e-3))
        assert run.train()

    def test_learning_rate_rises_and_falls(self):
        settings = recipe(learning_rate=1.0, warmup=0.1).training
        rates = [learning_rate(settings, p) for p in (0.05, 0.1, 0.55, 1.0)]
        assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])

    def test_a_damaged_checkpoint_is_named(self, tmp_path):
        with pytest.raises(ModelError, match="No checkpoint"):
            load_checkpoint(tmp_path)
        (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
        with pytest.raises(ModelError, match="damaged"):
            load_checkpoint(tmp_path)


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
        assert card.metrics == {
            "validation PSNR gain over bicubic, dB": round(trained.history[-1]["gain"], 3)
        }
        assert model.card == card

    def test_files_hold_float16_and_no_paths(self, trained, tmp_path):
        export(load_checkpoint(trained.folder), tmp_path / "w.onnx")
        content = (tmp_path / "w.onnx").read_bytes()
        parameters = sum(p.numel() for p in trained.network.parameters())
        assert len(content) < 2 * parameters + 12_000
        assert b"/src/" not in content
        assert b"site-packages" not in content


@pytest.mark.slow
def test_the_command_line_trains_stops_resumes_and_exports(tmp_path):
    for name in ("a", "b"):
        mrlift.save(head_volume((64, 72, 4)), tmp_path / f"{name}.nii.gz")
    text = (
        '[network]\nunits = 2\nchannels = 8\n[data]\nlr_patch = 12\nvalidation = ["b"]\n'
        "[training]\nbatch = 4\nlr_pixels = 1e9\n[card]\nname = 'mine'\n"
    )
    (tmp_path / "r.toml").write_text(text)
    command = [sys.executable, "-m", "mrlift", "train", str(tmp_path / "r.toml")]
    command += ["--data", str(tmp_path), "-o", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert "slices to train on" in process.stdout.readline()
    while not (tmp_path / "run").is_dir():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Stopped" in out

    def mrlift_command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "mrlift", *map(str, arguments)], capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    code, text = mrlift_command(*command[3:])
    assert code == 5
    assert "--resume" in text
    code, text = mrlift_command(*command[3:], "--resume", "--budget", "0.02")
    assert code == 0
    assert "dB over bicubic" in text
    weights_file = tmp_path / "mine.onnx"
    assert mrlift_command("export", tmp_path / "run", "-o", weights_file)[0] == 0
    assert mrlift_command("export", tmp_path / "run", "-o", weights_file)[0] == 3
    code, text = mrlift_command(
        "upscale", tmp_path / "a.nii.gz", "-o", tmp_path / "sr.nii.gz", "--model", weights_file
    )
    assert code == 0, text
    assert mrlift.load(tmp_path / "sr.nii.gz").voxels.shape == (128, 144, 4)

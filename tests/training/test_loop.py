"""The loop: learning, resuming, sharing among processes."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from zipfile import ZipFile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from peers import free_port  # noqa: E402
from phantoms import head_volume  # noqa: E402
from runs import phantom_store, recipe, run_in, weights  # noqa: E402

import mrlift  # noqa: E402
from mrlift.errors import ConfigError, DivergenceError, ModelError  # noqa: E402
from mrlift.metrics import psnr  # noqa: E402
from mrlift.networks import NETWORKS  # noqa: E402
from mrlift.training.checkpoint import load_checkpoint  # noqa: E402
from mrlift.training.loop import Run, learning_rate, multiplies_bfloat16  # noqa: E402
from mrlift.training.losses import Objective  # noqa: E402


class TestLoop:
    def test_it_learns(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(lr_pixels=4 * 144 * 150, learning_rate=2e-2))
        assert run.validate() == pytest.approx(0, abs=0.2)  # bicubic but for the border
        assert run.train()
        assert run.validate() > 0.2

    @pytest.mark.parametrize("optimiser", ["adamw", "muon"])
    def test_interrupted_and_resumed_is_bit_identical(self, tmp_path, optimiser):
        settings = recipe(optimiser=optimiser)
        whole = run_in(tmp_path / "whole", settings)
        whole.train()
        calls = iter([False] * 4 + [True] * 9)
        part = run_in(tmp_path / "part", settings)
        assert not part.train(stop=lambda: next(calls))
        rest = run_in(tmp_path / "part", settings, resume=True)
        assert 0 < rest.step < rest.steps
        assert rest.train()
        assert torch.equal(weights(whole), weights(rest))
        average = [torch.cat([p.flatten() for p in r.average.parameters()]) for r in (whole, rest)]
        assert torch.equal(*average)

    @pytest.mark.parametrize(
        ("rate", "message"), [(1e30, "stopped being finite"), (10.0, r"gain fell to -\d+\.\d dB")]
    )
    def test_divergence_stops_with_the_last_good_state(self, tmp_path, rate, message):
        run = run_in(tmp_path / "r")
        run.train(stop=lambda: run.step == 3)
        good = (tmp_path / "r" / "checkpoint.pt").read_bytes()
        run.recipe = recipe(learning_rate=rate, clip=1e30)
        advice = r"at step \d+\. The checkpoint.* Lower training\.learning_rate.*--start .*/r -o"
        with pytest.raises(DivergenceError, match=f"{message} {advice}"):
            run.train(every=0)
        assert (tmp_path / "r" / "checkpoint.pt").read_bytes() == good
        # As the message says:
        assert run_in(tmp_path / "again", recipe(learning_rate=1e-3), start=tmp_path / "r").train()

    def test_divergence_before_the_first_checkpoint(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(learning_rate=1e30, clip=1e30))
        with pytest.raises(DivergenceError, match=r"Nothing was saved.*lower training\."):
            run.train()
        assert not (tmp_path / "r" / "checkpoint.pt").exists()

    def test_a_checkpoint_of_a_gpu_is_read_without_one(self, tmp_path):
        run_in(tmp_path / "r").train()
        file = tmp_path / "r" / "checkpoint.pt"
        with ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with ZipFile(file, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0"))
        assert load_checkpoint(tmp_path / "r").network["head.weight"].device.type == "cpu"

    def test_resuming_with_another_recipe_is_refused(self, tmp_path):
        run_in(tmp_path / "r").train()
        for other in (recipe(batch=8), recipe(network={"units": 3})):
            with pytest.raises(ConfigError, match="begun with"):
                run_in(tmp_path / "r", other, resume=True)

    def test_the_paper_grid_trains(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(network={"grid": "paper"}))
        assert run.train()
        assert run.validate() > -3  # the border is new to bicubic, and twelve steps teach little

    def test_squared_loss_and_sgd(self, tmp_path):
        run = run_in(tmp_path / "r", recipe(optimiser="sgd", loss="squared", learning_rate=1e-3))
        assert run.train()

    def test_decibels_are_minus_the_psnr_of_the_sum_alone(self, tmp_path):
        """Their gradient is that of the mean PSNR, whatever the y_i look like."""
        torch.manual_seed(0)
        network = NETWORKS["mrl"](2, units=3, channels=8)
        lr, hr = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 16, 16)
        loss = Objective(network, "decibels")(lr, hr)
        y, _ = network.outputs(lr)
        pairs = zip(hr.numpy(), y.detach().numpy(), strict=True)
        mean = np.mean([psnr(a, b, data_range=1.0) for a, b in pairs])
        assert loss.item() == pytest.approx(-mean, abs=1e-3)
        ours = torch.autograd.grad(loss, network.parameters())
        errors = torch.square(y - hr).mean(dim=(1, 2, 3))
        true = torch.autograd.grad(10 * torch.log10(errors).mean(), network.parameters())
        for one, other in zip(ours, true, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)
        network.forward = None  # in mixed precision it reads x in bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert Objective(network, "decibels")(lr, hr).item() == pytest.approx(-mean, abs=0.02)
        run = run_in(tmp_path / "r", recipe(loss="decibels", lr_pixels=4 * 144 * 150))
        assert run.train()
        assert run.history[-1]["gain"] > 0.1  # it began as bicubic interpolation

    def test_sum_is_the_squared_error_of_the_sum_alone(self):
        """L_sum of eq. 7, with the half and the mean over the batch that `squared` has."""
        torch.manual_seed(0)
        network = NETWORKS["mrl"](2, units=3, channels=8)
        lr, hr = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 16, 16)
        y, _ = network.outputs(lr)
        alone = 0.5 * torch.square(y - hr).sum() / 2
        assert Objective(network, "sum")(lr, hr).item() == pytest.approx(alone.item(), rel=1e-5)

    def test_weights_are_of_the_squared_errors_of_each_patch(self):
        torch.manual_seed(0)
        network = NETWORKS["mrl"](2, units=3, channels=8)
        lr, hr, weight = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 16, 16), torch.tensor([0.5, 3.0])
        for loss in ("sum", "squared"):
            objective = Objective(network, loss)
            one, other = (objective(lr[i : i + 1], hr[i : i + 1]).item() for i in range(2))
            mean = (0.5 * one + 3.0 * other) / 2
            assert objective(lr, hr, weight).item() == pytest.approx(mean, rel=1e-5)

    def test_other_losses_are_of_the_sum_and_of_each_image(self):
        """Eq. 5-7, with a half in front of each square."""
        torch.manual_seed(0)
        network = NETWORKS["mrl"](2, units=3, channels=8)
        lr, hr = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 16, 16)
        y, each = network.outputs(lr)
        squares = torch.square(torch.cat([y, each], dim=1) - hr).sum() / 2
        assert Objective(network, "squared")(lr, hr).item() == pytest.approx(squares.item() / 2)

    def test_learning_rate_rises_and_falls(self):
        settings = recipe(learning_rate=1.0, warmup=0.1).training
        rates = [learning_rate(settings, p) for p in (0.05, 0.1, 0.55, 1.0)]
        assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])

    def test_the_rate_falls_in_steps(self):
        """Divided by 10 every 20 of 100 epochs, as in section 3.2."""
        settings = recipe(learning_rate=0.1, schedule="steps", step=0.2).training
        rates = [learning_rate(settings, p) for p in (0.01, 0.2, 0.201, 0.4, 0.41, 1.0)]
        assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-5])

    def test_epochs_pass_over_the_regular_grid(self, tmp_path):
        settings = recipe(data={"lr_step": 6}, epochs=3, batch=4)
        run = run_in(tmp_path / "r", settings)
        assert run.steps == -(-3 * len(run.sampler) // 4)
        assert run.train()

    def test_clipping_by_the_learning_rate(self, tmp_path):
        """Plain SGD moves the weights by at most theta a step when clipped at theta / rate."""
        theta = 1e-3
        settings = recipe(
            optimiser="sgd", momentum=0.0, weight_decay=0.0, loss="squared", schedule="steps",
            learning_rate=10.0, clip=theta, clip_by_rate=True, lr_pixels=4 * 144,
        )  # fmt: skip
        run = run_in(tmp_path / "r", settings)
        before = weights(run).clone()
        run.train()
        assert torch.linalg.norm(weights(run) - before).item() == pytest.approx(theta, rel=1e-3)

    @pytest.mark.skipif(
        not multiplies_bfloat16(torch.device("cpu")), reason="this processor has no AMX"
    )
    def test_mixed_precision_goes_where_single_goes(self, tmp_path):
        """Twelve steps of plain descent, whose length is that of the gradients."""
        ends = {}
        for precision in ("mixed", "single"):
            settings = recipe(
                precision=precision, optimiser="sgd", loss="squared", learning_rate=1e-3
            )
            run = run_in(tmp_path / precision, settings)
            start = weights(run).clone()
            run.train()
            assert all(p.dtype == torch.float32 for p in run.network.parameters())
            ends[precision] = weights(run) - start
        assert not torch.equal(ends["mixed"], ends["single"])
        apart = torch.linalg.norm(ends["mixed"] - ends["single"])
        assert apart < 0.1 * torch.linalg.norm(ends["single"])

    def test_kspace_with_noise(self, tmp_path):
        data = {"degradation": "kspace", "noise": [0.0, 0.02], "rescale": [1.0, 0.7]}
        run = run_in(tmp_path / "r", recipe(data, lr_pixels=4 * 144 * 60, learning_rate=1e-2))
        before = run.validate()
        assert run.train()
        assert run.validate() > before

    def test_curves_hold_the_rows_of_the_history_once(self, tmp_path):
        run = run_in(tmp_path / "r")
        run.train(every=0.0, stop=lambda: run.step == 3)
        rest = run_in(tmp_path / "r", resume=True)
        rest.train(every=0.0)
        with (tmp_path / "r" / "curves.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == list(range(1, 13))
        assert float(rows[-1]["gain"]) == rest.history[-1]["gain"]
        events = list((tmp_path / "r").glob("events.out.tfevents.*"))
        assert events
        assert b"gradient_norm" in events[0].read_bytes()

    def test_progress_and_time_left(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mrlift.training.loop.TRIAL", 0.0)
        rows = []
        run = run_in(tmp_path / "r")
        run.train(progress=rows.append)
        assert len(rows) == 11  # the twelfth is a validation
        left = [row["seconds_left"] for row in rows]
        assert left[0] > left[-1] > 0
        assert all(row["gradient_norm"] > 0 for row in rows)

    def test_another_store_is_refused(self, tmp_path):
        run_in(tmp_path / "r").train()
        phantom_store(tmp_path / "r.h5", shapes=((64, 72),) * 4)
        with pytest.raises(ConfigError, match="Resume with the store"):
            run_in(tmp_path / "r", resume=True)

    def test_a_store_without_validation_patients(self, tmp_path):
        store = phantom_store(tmp_path / "a.h5")
        store.records = [dataclasses.replace(r, split="train") for r in store.records]
        with pytest.raises(ConfigError, match="no validation patients"):
            Run(recipe(), store, tmp_path / "r")

    def test_a_damaged_checkpoint_is_named(self, tmp_path):
        with pytest.raises(ModelError, match="No checkpoint"):
            load_checkpoint(tmp_path)
        (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
        with pytest.raises(ModelError, match="damaged"):
            load_checkpoint(tmp_path)


def mrlift_command(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "mrlift", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout + done.stderr


RECIPE = """
[network]
units = 2
channels = 8
[data]
lr_patch = 12
[training]
batch = 4
lr_pixels = 23040
[card]
name = "mine"
"""


@pytest.fixture
def prepared(tmp_path):
    """A recipe and the command that trains it on a store."""
    for name in ("a", "b"):
        mrlift.save(head_volume((64, 72, 4)), tmp_path / f"{name}.nii.gz")
    code, text = mrlift_command("data", "prepare", tmp_path, "-o", tmp_path / "s.h5")
    assert code == 0, text
    (tmp_path / "r.toml").write_text(RECIPE)

    def command(run, *more):
        return [
            "train", tmp_path / "r.toml", "--data", tmp_path / "s.h5", "-o", run,
            "--threads", "1", *more,
        ]  # fmt: skip

    return command


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(prepared, tmp_path):
    """SIGKILL at moments of the operating system's choice, until the run is done."""
    code, text = mrlift_command(*prepared(tmp_path / "whole"))
    assert code == 0, text
    kills = 0
    while True:
        resume = ["--resume"] if (tmp_path / "part" / "checkpoint.pt").exists() else []
        arguments = prepared(tmp_path / "part", "--every", "0", *resume)
        process = subprocess.Popen(
            [sys.executable, "-m", "mrlift", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        process.stdout.readline()
        for _ in range(12 + 4 * kills):
            if not process.stdout.readline():
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break
        kills += 1
    assert kills >= 2
    one, other = (load_checkpoint(tmp_path / name) for name in ("whole", "part"))
    assert one.step == other.step == 40
    for key, value in one.network.items():
        assert torch.equal(value, other.network[key])
    for key, value in one.average.items():
        assert torch.equal(value, other.average[key])


@pytest.mark.slow
def test_two_machines_learn_what_one_does(prepared, tmp_path):
    """Two torchrun agents that meet over TCP, as on two machines: the same batches and weights.

    In single precision: bfloat16 rounds the gradient of each process's share by itself.
    """
    single = RECIPE.replace("batch = 4", 'batch = 4\nprecision = "single"')
    start = ("--start", tmp_path / "zero")
    for run, pixels, more in (("zero", "576", ()), ("one", "23040", start)):
        (tmp_path / "r.toml").write_text(single.replace("23040", pixels))
        code, text = mrlift_command(*prepared(tmp_path / run, *more))
        assert code == 0, text
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-id", "test", "--rdzv-backend", "c10d", "--rdzv-endpoint",
        f"localhost:{free_port()}",
        "-m", "--", "mrlift", *map(str, prepared(tmp_path / "two", *start)),
    ]  # fmt: skip
    agents = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]  # fmt: skip
    told = [agent.communicate(timeout=300) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told
    said = "".join(out for out, _ in told)
    assert "2 processes" in said
    assert said.count("Finished.") == 1
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one.step == two.step
    for key, value in one.network.items():
        torch.testing.assert_close(two.network[key], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_command_line_trains_stops_resumes_and_exports(prepared, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.replace("23040", "1e9"))
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "mrlift", *map(str, prepared(run))],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert "slices of 1 patients to train on" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Stopped" in out

    code, text = mrlift_command(*prepared(run))
    assert code == 5
    assert "--resume" in text
    code, text = mrlift_command(*prepared(run, "--resume", "--budget", "0.02"))
    assert code == 0
    for word in ("gradient", "LR pixels/s", "left", "dB over bicubic"):
        assert word in text
    weights_file = tmp_path / "mine.onnx"
    assert mrlift_command("export", run, "-o", weights_file)[0] == 0
    assert mrlift_command("export", run, "-o", weights_file)[0] == 3
    code, text = mrlift_command(
        "upscale", tmp_path / "a.nii.gz", "-o", tmp_path / "sr.nii.gz", "--model", weights_file
    )
    assert code == 0, text
    assert mrlift.load(tmp_path / "sr.nii.gz").voxels.shape == (128, 144, 4)


def test_a_batch_that_cannot_be_shared(prepared, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.replace("batch = 4", "batch = 3"))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "mrlift", *map(str, prepared(tmp_path / "two"))],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "A batch of 3 cannot be shared among 2 processes" in done.stderr

"""Muon: orthogonal steps for the kernels between channels, AdamW for the rest."""

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from runs import recipe, run_in  # noqa: E402

from mrlift.errors import DivergenceError  # noqa: E402
from mrlift.networks.mrl import MRL  # noqa: E402
from mrlift.training import muon as muon_module  # noqa: E402
from mrlift.training.checkpoint import load_checkpoint  # noqa: E402
from mrlift.training.muon import LENGTH, Muon, orthogonalised  # noqa: E402

sides = st.integers(1, 12)


@given(sides, sides, st.integers(0, 999), st.floats(-2, 12))
def test_all_directions_become_equally_long(rows, columns, seed, power):
    """The nearest semi-orthogonal matrix: U V^T, whatever the length of the matrix."""
    generator = torch.Generator().manual_seed(seed)
    u, _, vt = torch.linalg.svd(
        torch.randn(rows, columns, generator=generator), full_matrices=False
    )
    lengths = torch.linspace(1, 0.2, len(vt))
    way = orthogonalised((u * lengths) @ vt * 10.0**power)
    torch.testing.assert_close(way, u @ vt, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-24, 1e-19, 1e-15])
def test_of_next_to_nothing_comes_next_to_nothing(size):
    """Momentum that only fades: squares of it may be too small for a number."""
    assert orthogonalised(size * torch.randn(4, 9)).abs().max() < 1e-3


def test_what_is_lost_in_rounding_is_not_brought_up():
    """A direction with a ten-thousandth of the others' length is noise of single precision."""
    way = orthogonalised(torch.diag(torch.tensor([1.0, 1.0, 1e-4])))
    assert torch.diagonal(way)[:2].sub(1).abs().max() < 1e-3
    assert way[2, 2] < 0.2


@pytest.mark.parametrize("seed", range(6, 12))
def test_gradients_of_dead_kernels_do_no_harm(seed):
    """Rows of zeros and of next to nothing: LAPACK fails on the product of such a matrix alone."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.cat([torch.zeros(40), torch.logspace(-20, 0, 88)])
    lengths = lengths[torch.randperm(128, generator=generator)]
    few = torch.randn(128, 4, generator=generator) @ torch.randn(4, 300, generator=generator)
    way = orthogonalised(few * lengths[:, None])
    assert torch.isfinite(way).all()
    assert torch.linalg.matrix_norm(way, 2) < 1.001


def muon(network, lr):
    return Muon(network, lr=lr, momentum=0.9, weight_decay=0.0)


def test_a_step_has_the_length_that_the_rate_says():
    layer = torch.nn.Conv2d(4, 6, 3)
    before = layer.weight.detach().clone()
    layer.weight.square().sum().backward()
    muon(layer, 1e-2).step()
    moved = (before - layer.weight.detach()).flatten(1)
    torch.testing.assert_close(
        moved @ moved.T, torch.eye(6) * (1e-2 * LENGTH) ** 2 * 36, atol=1e-7, rtol=1e-3
    )
    assert (moved * before.flatten(1)).sum() > 0  # towards less


def test_all_weights_but_the_kernels_of_the_units_are_moved_as_adamw_moves_them():
    network, other = MRL(2, units=2, channels=8), MRL(2, units=2, channels=8)
    other.load_state_dict(network.state_dict())
    options = {"lr": 1e-3, "weight_decay": 1e-2}
    for one, optimiser in (
        (network, Muon(network, momentum=0.9, **options)),
        (other, torch.optim.AdamW(other.parameters(), fused=True, **options)),
    ):
        for seed in (1, 2):
            generator = torch.Generator().manual_seed(seed)
            for weight in one.parameters():
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimiser.step()
    kernels = {f"units.{i}.{k}.weight" for i in (0, 1) for k in ("first", "second")}
    theirs = dict(other.named_parameters())
    same = {n for n, w in network.named_parameters() if torch.equal(w, theirs[n])}
    assert theirs.keys() - same == kernels


def test_a_network_of_one_channel_is_left_to_adamw():
    network = MRL(2, units=1, channels=1)
    before = network.deconv.weight.detach().clone()
    network(torch.rand(1, 1, 9, 9)).square().sum().backward()
    muon(network, 1e-2).step()
    assert not torch.equal(before, network.deconv.weight)


def test_the_kernels_learn(tmp_path, monkeypatch):
    """What the kernels add to the gain that AdamW's weights come to with random ones."""
    settings = recipe(optimiser="muon", learning_rate=1e-2, lr_pixels=4 * 144 * 150, seed=1)
    gains = []
    for length in (0.0, LENGTH):
        monkeypatch.setattr(muon_module, "LENGTH", length)
        run = run_in(tmp_path / f"{length}", settings)
        run.train()
        gains.append(run.validate())
    assert gains[1] > gains[0] + 0.2  # 0.12 and 0.51 dB; rounding moves them by some hundredths


def test_what_has_no_eigenvectors_stops_training(tmp_path, monkeypatch):
    run = run_in(tmp_path / "r", recipe(optimiser="muon"))

    def fails(matrix):
        raise torch.linalg.LinAlgError("not converged")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    with pytest.raises(DivergenceError, match="Nothing was saved before"):
        run.train()


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    run = run_in(tmp_path / "r", recipe(optimiser="muon"))
    run.save()
    monkeypatch.setattr(muon_module, "orthogonalised", lambda matrix: matrix * torch.nan)
    with pytest.raises(DivergenceError, match="weights"):
        run.train(every=0.0)
    assert all(torch.isfinite(v).all() for v in load_checkpoint(tmp_path / "r").network.values())

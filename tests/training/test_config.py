"""Recipes."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from conftest import ROOT  # noqa: E402

from mrlift.errors import ConfigError  # noqa: E402
from mrlift.training.config import NetworkConfig, known_recipes, load_recipe, recipe_from  # noqa: E402
from mrlift.training.loop import build_network, learning_rate  # noqa: E402


class TestRecipes:
    @pytest.mark.parametrize(
        "path", sorted((ROOT / "recipes").rglob("*-x*.toml")), ids=lambda p: p.stem
    )
    def test_every_recipe_is_complete_and_builds(self, path):
        settings = load_recipe(path)
        build_network(settings.network)
        shipped = path.parent.name == "shipped"
        assert settings.card.licence == ("CC BY 4.0" if shipped else "not stated")
        assert settings.card.name.startswith("mrl-") == shipped  # nobody's own weights are ours

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
            ({"network": {"name": "srcn"}}, "Did you mean 'srcnn'"),
            ({"network": {"unit": 3}}, "Did you mean 'units'"),
            ({"network": {"name": "edsr", "chanels": 3}}, "Did you mean 'channels'"),
            ({"network": {"name": "espcn", "units": 3}}, "Unknown key 'units'"),
            ({"network": {"name": "edsr", "blocks": "3"}}, "expected int, found str"),
            ({"network": {"units": 0}}, "must be positive"),
            ({"training": {"batch": 0}}, "must be positive"),
            ({"training": {"warmup": 1.0}}, r"in \[0, 1\)"),
            ({"data": {"rescale": ["a"]}}, "expected float, found str"),
            ({"data": {"rescale": [3.0]}}, "factors"),
            ({"data": {"noise": [0.2, 0.1]}}, "shares 0 <= a"),
            ({"data": {"lr_step": -1}}, "negative"),
            ({"network": {"grid": "paper"}, "data": {"degradation": "kspace"}}, "edges grid only"),
            ({"training": {"epochs": 3}}, "regular grid"),
            ({"training": {"step": 0.0}}, r"in \(0, 1\]"),
            ({"training": {"clip": -1.0}}, "clip must not"),
            ({"training": {"ema": 1.0}}, "ema"),
        ],
    )
    def test_mistakes_are_named(self, table, message):
        with pytest.raises(ConfigError, match=message):
            recipe_from(table)

    def test_files_that_are_no_recipes(self, tmp_path):
        for path in (tmp_path / "none.toml", tmp_path):
            with pytest.raises(ConfigError, match=r"no recipe .* or a name: cpu-x2, cpu-x2-kspace"):
                load_recipe(path)
        (tmp_path / "a.toml").write_text("a = = 3")
        with pytest.raises(ConfigError, match="not valid TOML"):
            load_recipe(tmp_path / "a.toml")

    def test_recipes_by_name(self, tmp_path, monkeypatch):
        """Unless there is such a file here; a run's folder may be called so."""
        assert set(known_recipes()) == {p.stem for p in (ROOT / "recipes").glob("*-x*.toml")}
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cpu-x2").mkdir()
        assert load_recipe(Path("cpu-x2")) == load_recipe(ROOT / "recipes/cpu-x2.toml")
        (tmp_path / "cpu-x3").write_text("[network]\nunits = 3\n")
        assert load_recipe(Path("cpu-x3")).network.units == 3

    def test_whole_numbers_are_numbers(self):
        assert recipe_from({"training": {"lr_pixels": 1000}}).training.lr_pixels == 1000.0

    def test_the_papers_recipe(self):
        """Sections 2.1 to 3.1, number by number."""
        for scale, (patch, step) in {2: (14, 11), 3: (10, 7), 4: (8, 6)}.items():
            settings = load_recipe(ROOT / "recipes" / f"paper-x{scale}.toml")
            assert settings.network == NetworkConfig.variant({})(scale=scale, grid="paper")
            assert (settings.data.lr_patch, settings.data.lr_step) == (patch, step)
            training = settings.training
            assert (training.optimiser, training.momentum) == ("sgd", 0.9)
            assert (training.batch, training.epochs) == (128, 100)
            assert (training.weight_decay, training.loss) == (1e-4, "squared")
            assert (training.clip, training.clip_by_rate) == (0.01, True)
            network = build_network(settings.network)
            assert network.deconv.kernel_size == (9, 9)
            assert sum(p.numel() for p in network.parameters()) == 2_668_251
            epochs = [learning_rate(training, (epoch + 0.5) / 100) for epoch in range(100)]
            assert epochs == pytest.approx([0.1 / 10 ** (epoch // 20) for epoch in range(100)])

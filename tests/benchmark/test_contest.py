"""The protocol: what it fixes, that it goes on where it was, and that a stranger's network fits."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from conftest import ROOT  # noqa: E402
from phantoms import head  # noqa: E402
from runs import phantom_store  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from mrlift.benchmark import contest as contest_module  # noqa: E402
from mrlift.benchmark import protocol, visual  # noqa: E402
from mrlift.benchmark.contest import Contest, trained  # noqa: E402
from mrlift.benchmark.evaluation import FIGURES, evaluate, figures, find_tests, wrap  # noqa: E402
from mrlift.benchmark.figures import unpack  # noqa: E402
from mrlift.benchmark.protocol import Budget, exists, recipe  # noqa: E402
from mrlift.cli import application  # noqa: E402
from mrlift.errors import ConfigError, DivergenceError  # noqa: E402
from mrlift.inference.engines import bicubic_engine  # noqa: E402
from mrlift.io import save  # noqa: E402
from mrlift.networks import NETWORKS  # noqa: E402
from mrlift.training.loop import Run  # noqa: E402
from mrlift.training.store import SliceStore  # noqa: E402
from mrlift.volume import Volume  # noqa: E402

LEAST = protocol.HR_PATCH**2 * protocol.BATCH * protocol.CURVE


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A store, and two series of two patients to report on."""
    folder = tmp_path_factory.mktemp("material")
    phantom_store(folder / "s.h5", shapes=((110, 96), (96, 110)))
    (folder / "test").mkdir()
    for number, name in enumerate(("p1_t1", "p2_t1")):
        voxels = head((49, 54, 2), seed=10 + number).astype(np.int16)
        save(Volume(voxels, np.diag([0.8, 0.8, 3, 1])), folder / "test" / f"{name}.nii.gz")
    return folder


def contest(material, folder, **options):
    folder.mkdir(exist_ok=True)
    tests = find_tests(material / "test", None)
    store = SliceStore(material / "s.h5")
    return Contest(folder, store, tests, Budget(LEAST), "a test", **options)


def figures_of(file):
    record = json.loads(file.read_text())
    return record["test"], [p["gain"] for p in record["curve"]], record["recipe"]


class TestProtocol:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_all_networks_get_the_same_but_for_the_rate(self, scale):
        recipes = [recipe(m, scale, 1e-3, 5e7, 0) for m in NETWORKS if exists(m, scale)]
        assert len({(r.data, r.training) for r in recipes}) == 1
        data, training = recipes[0].data, recipes[0].training
        assert data.lr_patch * scale == protocol.HR_PATCH
        assert training.lr_pixels * scale**2 == pytest.approx(5e7)
        assert {r.network.grid for r in recipes} == {"edges"}

    def test_fscwn_is_for_x2(self):
        assert [exists("fscwn", s) for s in (2, 3, 4)] == [True, False, False]

    def test_a_budget_too_small_for_its_curve_is_refused(self):
        with pytest.raises(ConfigError, match="at least"):
            Budget(LEAST - 1)


class TestEvaluation:
    def test_figures_by_hand(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 1000, (20, 20)).astype(np.float32)
        result = truth + 10
        result[:2] += 90
        found = figures(truth, result, 1000.0, 2)
        error = np.mean((result - truth) ** 2)
        assert found["psnr"] == pytest.approx(10 * np.log10(1e6 / error), abs=1e-4)
        assert found["psnr_inner"] == pytest.approx(40, abs=1e-4)
        coarse = np.clip(np.rint(result * 0.255), 0, 255) - np.rint(truth * 0.255)
        expected = 10 * np.log10(255**2 / np.mean(coarse**2))
        assert found["psnr_8bit"] == pytest.approx(expected, abs=1e-4)

    def test_bicubic_against_itself_is_what_the_engine_gives(self, material):
        tests = find_tests(material / "test", None)
        results = evaluate(tests, wrap(bicubic_engine(2), 2, "bicubic"))
        assert [r["series"] for r in results] == ["p1_t1", "p2_t1"]
        assert [r["patient"] for r in results] == ["p1", "p2"]
        assert all(len(r[f]) == len(r["slices"]) > 0 for r in results for f in FIGURES)
        assert min(results[0]["psnr"]) > 15

    def test_patients_come_from_the_sheet(self, material):
        sheet = material / "sources.toml"
        sheet.write_text("[[source]]\npatient = '(p).*'\n")
        tests = find_tests(material / "test", sheet)
        results = evaluate(tests, wrap(bicubic_engine(2), 2, "bicubic"))
        assert {r["patient"] for r in results} == {"p"}


@pytest.mark.slow
class TestContest:
    def test_stopped_anywhere_it_ends_with_the_same_figures(self, material, tmp_path, monkeypatch):
        """A stop between two runs, within a run and before the test, against one go."""
        monkeypatch.setattr(contest_module, "RATES", (2e-3, 5e-4))
        whole = contest(material, tmp_path / "whole")
        assert whole.bicubic(2)
        assert whole.run("espcn", 2, 0)
        halting = tmp_path / "halting"
        for patience in range(2, 60, 7):
            asked = iter(range(patience))
            part = contest(material, halting, stop=lambda left=asked: next(left, None) is None)
            if part.bicubic(2) and part.run("espcn", 2, 0):
                break
        else:
            pytest.fail("it never came to an end")
        assert patience > 2
        one, other = (
            figures_of(f / "quality" / "espcn-x2-s0.json") for f in (tmp_path / "whole", halting)
        )
        assert one[0] == other[0]
        assert one[1][-1] == other[1][-1]
        assert one[2] == other[2]
        rates = [json.loads((f / "rates/espcn-s0.json").read_text())["rates"]
                 for f in (tmp_path / "whole", halting)]  # fmt: skip
        assert rates[0] == rates[1]

    def test_other_scales_start_from_x2_and_take_its_rate(self, material, tmp_path, monkeypatch):
        monkeypatch.setattr(contest_module, "RATES", (1e-3,))
        part = contest(material, tmp_path)
        assert part.bicubic(4)
        assert part.run("espcn", 4, 0)
        record = json.loads((tmp_path / "quality/espcn-x4-s0.json").read_text())
        assert (tmp_path / "quality/espcn-x2-s0.json").exists()
        assert record["start"][0]["name"] == "espcn-x2"
        assert record["recipe"]["training"]["learning_rate"] == 1e-3
        assert record["command"] == "a test"
        assert {"machine", "commit", "date", "recipe", "parameters"} <= set(record)
        model = trained(tmp_path / "runs/espcn-x4-s0", "espcn")
        assert model.engine(np.zeros((1, 8, 9), np.float32)).shape == (1, 32, 36)
        (tmp_path / "quality/espcn-x4-s0.json").unlink()
        shutil.rmtree(tmp_path / "runs/espcn-x4-s0")
        shutil.rmtree(tmp_path / "runs/espcn-x2-s0")
        with pytest.raises(ConfigError, match="which is gone"):
            part.run("espcn", 4, 0)

    @pytest.mark.parametrize("scale", [2, 3])
    def test_a_rate_that_diverges_is_ruled_out(self, material, tmp_path, monkeypatch, scale):
        """In its trial, or at one scale over the whole budget; the next best is taken."""
        monkeypatch.setattr(contest_module, "RATES", (3e-3, 2e-3, 1e-3))
        advance = Run.advance

        def diverging(run):
            rate = run.recipe.training.learning_rate
            if rate == 3e-3 or (rate == best[0] and run.folder.name == f"espcn-x{scale}-s0"):
                raise DivergenceError("not finite")
            return advance(run)

        best = [0.0]
        part = contest(material, tmp_path)
        monkeypatch.setattr(Run, "advance", diverging)
        rates = part._rates("espcn", 0)
        assert rates[0]["gain"] is None
        order = sorted(rates[1:], key=lambda r: r["gain"])
        best[0] = order[-1]["rate"]
        assert part.bicubic(scale)
        assert part.run("espcn", scale, 0)
        for at in sorted({2, scale}):
            record = json.loads((tmp_path / f"quality/espcn-x{at}-s0.json").read_text())
            taken = order[0 if at == scale else -1]["rate"]
            assert record["recipe"]["training"]["learning_rate"] == taken
            if at == scale:
                ruled_out = [r.get("diverged") for r in record["rates"] if r["rate"] == best[0]]
                assert ruled_out == [[scale]]

    def test_figure_3_shows_what_was_tested(self, material, tmp_path, monkeypatch):
        monkeypatch.setattr(contest_module, "RATES", (1e-3,))
        part = contest(material, tmp_path)
        assert part.bicubic(2)
        with pytest.raises(ConfigError, match="run table2"):
            visual.compare(part, 2)
        assert part.run("espcn", 2, 0)
        assert visual.compare(part, 2)["slices"][0]["window"][2] == 48  # all that there is
        monkeypatch.setattr(visual, "SIDE", 40)
        shown = visual.compare(part, 2)["slices"]
        assert [s["series"] for s in shown] == ["p1_t1", "p2_t1"]
        assert set(shown[0]["methods"]) == {"bicubic", "espcn"}
        top, left, side = shown[0]["window"]
        truth = unpack(shown[0]["truth"])[top : top + side, left : left + side]
        part_of_bicubic = unpack(shown[0]["methods"]["bicubic"]["part"])
        assert truth.shape == part_of_bicubic.shape == (40, 40)
        assert np.abs(truth - part_of_bicubic).mean() < 0.1
        assert np.corrcoef(truth.ravel(), part_of_bicubic.ravel())[0, 1] > 0.9


def test_the_busiest_part_is_where_the_detail_is():
    image = np.full((50, 60), 0.5)
    image[31:36, 12:19] = np.random.default_rng(0).random((5, 7))
    top, left = visual.busiest(image, 12)
    assert top <= 30 < 36 <= top + 12
    assert left <= 11 < 19 <= left + 12

    def test_another_budget_does_not_mix_in(self, material, tmp_path, monkeypatch):
        monkeypatch.setattr(contest_module, "RATES", (1e-3,))
        assert contest(material, tmp_path).run("espcn", 2, 0)
        other = contest(material, tmp_path)
        other.budget = Budget(2 * LEAST)
        with pytest.raises(ConfigError, match="lr_pixels"):
            other.run("espcn", 2, 0)


STRANGER = '''
from torch import nn

class Stranger(nn.Module):
    """Two convolutions and a pixel shuffle."""

    def __init__(self, scale, *, channels=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, scale**2, 3, padding=1), nn.PixelShuffle(scale),
        )

    def forward(self, x):
        return self.layers(x)
'''


@pytest.mark.slow
def test_a_strangers_network_is_a_file_and_an_entry(material, tmp_path, monkeypatch):
    """docs/how-to/compare.md, from the file to the row."""
    file = tmp_path / "stranger.py"
    file.write_text(STRANGER)
    spec = importlib.util.spec_from_file_location("stranger", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(NETWORKS, "stranger", module.Stranger)
    out = tmp_path / "out"
    command = [
        "bench", "table2", "--data", str(material / "s.h5"), "--test", str(material / "test"),
        "-o", str(out), "--scale", "2", "--network", "stranger", "--hr-pixels", str(LEAST),
        "--threads", "1",
    ]  # fmt: skip
    done = CliRunner().invoke(application(), command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "All results are in" in done.stdout
    assert recipe("stranger", 2, 1e-3, LEAST, 0).network.channels == 4
    drawn = CliRunner().invoke(application(), ["bench", "render", str(out)], catch_exceptions=False)
    assert drawn.exit_code == 0
    row = next(r for r in (out / "table2-x2.csv").read_text().splitlines() if "stranger" in r)
    assert row.startswith("stranger,188,")  # parameters: 4*9 + 4, 4*4*9 + 4
    assert "stranger" in (out / "report.html").read_text()
    shutil.rmtree(out)


def test_a_misspelt_network_is_named(material, tmp_path):
    command = [
        "bench", "table2", "--data", str(material / "s.h5"), "--test", str(material / "test"),
        "-o", str(tmp_path), "--network", "edrs",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="Did you mean 'edsr'"):
        CliRunner().invoke(application(), command, catch_exceptions=False)


def test_the_sheet_for_the_shared_test_data_is_sound():
    from mrlift.training.sources import load_sources

    assert len(load_sources(ROOT / "recipes/test-sources.toml", ROOT).sheet.source) == 4

"""Tables, claims, pictures and the report, from results with made-up figures and from our own."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import made_up
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from mrlift.benchmark.claims import claims
from mrlift.benchmark.figures import drawable, pack, unpack
from mrlift.benchmark.published import TABLE_2
from mrlift.benchmark.render import BLOCK, fill, filled, render
from mrlift.benchmark.results import Results, load_results, mean
from mrlift.benchmark.tables import tables
from mrlift.errors import InputError

PAGES = ("README.md", "docs/explanation/findings.md")
COMMITTED = ROOT / "benchmarks" / "results" / "tables"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_up.results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def results(folder):
    return load_results(folder)


@pytest.fixture(scope="module")
def rendered(folder):
    pytest.importorskip("matplotlib", reason="pictures need the bench extra")
    return folder, render(folder, folder)


class TestStatistics:
    @given(values=st.lists(st.floats(-50, 50), min_size=1, max_size=30))
    def test_the_interval_holds_the_mean_and_lies_within_the_values(self, values):
        found = mean(np.array(values))
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
        assert found.value == pytest.approx(np.mean(values), abs=1e-9)
        assert mean(np.array(values)) == found  # the same each time

    def test_it_narrows_with_the_root_of_the_count(self):
        values = np.random.default_rng(1).normal(0, 1, 4000)
        few, many = mean(values[:250]), mean(values)
        assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.15)
        assert many.high - many.low == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.1)

    def test_gains_are_paired_and_patients_weigh_the_same(self, results):
        gain = results.gain("srcnn", 2)
        assert gain.std() < 0.1 < results.quality["srcnn", 2].values("psnr").std()
        each = results.quality["srcnn", 2].by_patient(gain)
        assert each.shape == (3,)
        assert each[0] == pytest.approx(gain[:10].mean())  # a: 6 and 4 slices

    def test_seeds_are_averaged(self, folder, tmp_path):
        made_up.results(tmp_path)
        second = json.loads((tmp_path / "quality/mrl-x2-s0.json").read_text())
        for series in second["test"]:
            series["psnr"] = [v + 1 for v in series["psnr"]]
        (tmp_path / "quality/mrl-x2-s1.json").write_text(json.dumps(second))
        one, two = (load_results(f).quality["mrl", 2].values("psnr") for f in (folder, tmp_path))
        np.testing.assert_allclose(two, one + 0.5)


class TestTables:
    def test_the_papers_figures_stand_beside_ours(self, results):
        for scale in (2, 3, 4):
            table = tables(results)[f"table2-x{scale}"]
            text = table.markdown()
            assert all(f"{psnr:.2f}" in text for psnr, _ in TABLE_2[scale].values())
        first = {row[0]: row for row in tables(results)["table2-x2"].rows}
        assert first["MRL (paper)"][7:9] == ("+6.01", "+4.91")
        assert first["SPAN"][6] == "-"

    def test_the_best_is_last_and_in_bold(self, results):
        assert tables(results)["table2-x2"].markdown().splitlines()[-1].startswith("| **MRL")

    def test_csv_is_what_markdown_shows(self, results):
        table = tables(results)["table1"]
        read = list(csv.reader(table.csv().splitlines()))
        assert read == [list(table.columns), *map(list, table.rows)]

    def test_fscwn_is_missing_at_x3(self, results):
        assert "FSCWN" not in tables(results)["table2-x3"].markdown()
        times = next(r for r in tables(results)["table3"].rows if r[0] == "FSCWN")
        assert times[1] == "1.290 (1.29)"
        assert times[3] == "-"


class TestClaims:
    def verdicts(self, results):
        return {row[0]: row[1] for row in claims(results).rows}

    def test_what_the_figures_say(self, results):
        found = self.verdicts(results)
        assert found["Best of all methods at x2"] == "holds"
        assert found["SRCNN is the worst network at x4 (text)"] == "holds"
        assert found["Multi-resolution is better than double upsampling at x2"] == "holds"
        order = next(v for k, v in found.items() if k.startswith("Order at x2"))
        assert order == "does not hold"
        assert all(v == "holds" for k, v in found.items() if k.startswith("Order of time"))

    def test_nothing_is_said_of_all_while_one_is_missing(self, tmp_path):
        made_up.results(tmp_path)
        (tmp_path / "quality/de-cnn-x4-s0.json").unlink()
        found = self.verdicts(load_results(tmp_path))
        for claim in ("Best of all methods", "Every network is better than bicubic"):
            assert f"{claim} at x3" in found
            assert f"{claim} at x4" not in found
        assert "SRCNN is the worst network at x4 (text)" not in found

    @pytest.mark.parametrize(("shift", "verdict"), [(-0.55, "open"), (-1.5, "does not hold")])
    def test_a_worse_network_loses_the_claim(self, tmp_path, shift, verdict):
        made_up.results(tmp_path)
        file = tmp_path / "quality/mrl-x2-s0.json"
        record = json.loads(file.read_text())
        for number, series in enumerate(record["test"]):
            # +-0.2 dB from patient to patient
            series["psnr"] = [v + shift + 0.2 * (-1) ** number for v in series["psnr"]]
        file.write_text(json.dumps(record))
        assert self.verdicts(load_results(tmp_path))["Best of all methods at x2"] == verdict


class TestFiles:
    def test_everything_is_written(self, rendered):
        folder, files = rendered
        names = {f.relative_to(folder).as_posix() for f in files}
        assert {"table1.md", "table2-x2.csv", "table2-x4.md", "table3.md", "claims.md"} <= names
        assert {
            f"{n}.{s}" for n in ("quality-time", "curves", "figure3") for s in ("png", "svg")
        } <= names
        assert all(f.stat().st_size > 100 for f in files)

    def test_twice_gives_the_same_bytes(self, rendered):
        folder, files = rendered
        before = {f: f.read_bytes() for f in files if f.suffix != ".png"}
        render(folder, folder)
        assert {f: f.read_bytes() for f in before} == before

    def test_the_report_is_sound_and_asks_nobody(self, rendered):
        text = (rendered[0] / "report.html").read_text()
        unbalanced = _Balance()
        unbalanced.feed(text)
        assert unbalanced.open == []
        assert "<script" not in text
        loads = re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
        assert all(u.startswith(("#", "data:")) for u in loads), loads
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text

    def test_pictures_are_well_formed_and_take_the_pages_colour(self, rendered):
        for name in ("quality-time", "curves", "figure3"):
            text = (rendered[0] / f"{name}.svg").read_text()
            ElementTree.fromstring(text)
            assert "currentColor" in text
        assert (rendered[0] / "quality-time.png").read_bytes().startswith(b"\x89PNG")

    def test_images_survive_packing(self):
        image = np.random.default_rng(0).random((5, 7))
        np.testing.assert_allclose(unpack(pack(image)), image, atol=5e-4)


class TestPages:
    def test_blocks_are_filled_and_the_rest_is_left(self, folder, tmp_path):
        page = tmp_path / "page.md"
        page.write_text(
            "before\n<!-- bench: summary -->\nold\n<!-- end bench -->\nbetween\n"
            "<!-- bench: quality-time -->\n<!-- end bench -->\nafter\n"
        )
        assert fill(folder, tmp_path / "pictures", [page]) == [page]
        text = page.read_text()
        assert "| MRL (paper) |" in text
        assert "](pictures/quality-time.png)" in text
        assert "old" not in text
        assert [w for w in ("before", "between", "after") if w in text] == [
            "before",
            "between",
            "after",
        ]
        assert fill(folder, tmp_path / "pictures", [page]) == []

    def test_a_page_without_a_block_is_refused(self, folder, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("nothing here")
        with pytest.raises(InputError, match="Expected a block"):
            fill(folder, tmp_path, [page])

    @pytest.mark.parametrize("page", PAGES)
    def test_our_own_pages_are_current(self, page):
        """Else: mrlift bench render benchmarks/results/tables --images docs/images --into PAGE"""
        known = (
            load_results(COMMITTED) if (COMMITTED / "quality").is_dir() else Results({}, {}, None)
        )
        text = (ROOT / page).read_text()
        assert BLOCK.search(text)
        up = Path(*[".."] * page.count("/")) / "docs" / "images"
        images = Path("../images") if page.startswith("docs") else up
        assert filled(text, known, images) == text
        for name in drawable(known):
            assert (ROOT / "docs/images" / f"{name}.png").is_file()


class TestMistakes:
    def test_a_folder_without_results(self, tmp_path):
        with pytest.raises(InputError, match="no results"):
            load_results(tmp_path)

    def test_a_damaged_result(self, tmp_path):
        made_up.results(tmp_path)
        (tmp_path / "quality/mrl-x2-s0.json").write_text("{")
        with pytest.raises(InputError, match="damaged"):
            load_results(tmp_path)

    def test_results_on_other_slices(self, tmp_path):
        made_up.results(tmp_path)
        file = tmp_path / "quality/mrl-x2-s0.json"
        record = json.loads(file.read_text())
        record["test"].pop()
        file.write_text(json.dumps(record))
        with pytest.raises(InputError, match="different slices"):
            load_results(tmp_path)

    def test_no_baseline(self, tmp_path):
        made_up.results(tmp_path)
        (tmp_path / "quality/bicubic-x2.json").unlink()
        with pytest.raises(InputError, match="none of bicubic"):
            load_results(tmp_path)


class _Balance(HTMLParser):
    """Tags that were opened and not closed."""

    VOID = ("meta", "br", "img", "link", "hr")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

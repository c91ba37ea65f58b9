"""The report: one page without anything from elsewhere, and without a name unless asked."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import head, head_volume, write_series
from PIL import Image

from mrlift.errors import OutputError
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import SHIPPED, Model, load_card
from mrlift.io import load
from mrlift.quality import check
from mrlift.quality.pictures import overlay, png, view_of
from mrlift.quality.report import page, shown_slices, spread_of, write_report

CARD = load_card(SHIPPED / "mrl-x2-bicubic.json")
MODEL = Model(CARD, bicubic_engine(2))


def judged(lr):
    sr = upscale(lr, model=MODEL)
    return check(lr, sr, CARD), lr, sr


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "Phantom^Anna"
    write_series(folder, head((48, 40, 4)))
    return folder


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))
    | hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
)
def test_pictures_read_back_as_they_were(picture):
    opened = np.asarray(Image.open(io.BytesIO(png(picture))))
    np.testing.assert_array_equal(opened, picture)


def test_a_map_shows_its_signs():
    ground = np.full((1, 3), 100, np.uint8)
    low, none, high = overlay(ground, np.array([[-2.0, 0.0, 2.0]]), 2.0, signed=True)[0].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert len(set(none)) == 1


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_slices_stand_upright(slice_axis, signs):
    """A mark at the right, front and top of the patient is at the left and top of every picture."""
    voxels = np.zeros((6, 8, 10), np.float32)
    corner = tuple(n - 1 if s > 0 else 0 for n, s in zip(voxels.shape, signs, strict=True))
    voxels[corner] = 1
    volume = replace(head_volume(), voxels=voxels, affine=np.diag([*signs, 1.0]))
    volume = replace(volume, slice_axis=slice_axis)
    view = view_of(volume)
    shown = view.of(volume.slices()[corner[slice_axis]])
    assert shown[0, 0] == 1
    sides = {0: ("AP", "SI"), 1: ("RL", "SI"), 2: ("RL", "AP")}[slice_axis]
    assert view.sides == "".join(sides)


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.alts, self.images = [], [], 0

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.found += [facts[k] for k in ("src", "href") if k in facts]
        if tag == "img":
            self.images += 1
            self.alts.append(facts.get("alt"))


def words(text):
    """The page without its pictures."""
    return re.sub(r"base64,[^\"]*", "", text)


def test_the_page_needs_nothing_else(series):
    checked, lr, sr = judged(load(series))
    shown = shown_slices(checked, lr)
    text = page(checked, lr, sr, spread_of(lr, MODEL, shown))
    links = Links()
    links.feed(text)
    assert links.found
    assert all(link.startswith("data:image/png;base64,") for link in links.found)
    assert "url(" not in text
    assert "<script" not in text
    assert all(links.alts)
    assert links.images == len(shown) * (6 + 2 * 2)
    for link in links.found:
        Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))).verify()
    assert not re.search(r"\$[a-z]+", text)


def test_no_patient_data_unless_asked(series, tmp_path):
    checked, lr, sr = judged(load(series))
    names = (str(series), str(tmp_path / "out"))
    write_report(tmp_path / "r.html", checked, lr, sr)
    told = words((tmp_path / "r.html").read_text())
    for secret in ("Anna", "P1", "20200101"):
        assert secret not in told
    write_report(tmp_path / "r.html", checked, lr, sr, names=names, overwrite=True)
    told = words((tmp_path / "r.html").read_text())
    for fact in ("Phantom^Anna", "P1", "20200101"):
        assert fact in told


def test_names_are_escaped(series):
    checked, lr, sr = judged(load(series))
    text = page(checked, lr, sr, names=("<b>a", "b"))
    assert "&lt;b&gt;a" in text


def test_warnings_come_before_pictures_and_the_spot_is_shown():
    hr = head_volume((96, 96, 4), np.float32)
    checked, lr, sr = judged(hr)
    wrong = sr.voxels.copy()
    wrong[90:98, 80:88, 3] += 600
    wrong_sr = replace(sr, voxels=wrong)
    checked = check(lr, wrong_sr, CARD)
    text = page(checked, lr, wrong_sr)
    assert 0 < text.index("<b>structure</b>") < text.index("<img")
    assert 3 in [s.index for s in shown_slices(checked, lr)]
    assert "look closer" in text


def test_nothing_is_overwritten_unasked(series, tmp_path):
    checked, lr, sr = judged(load(series))
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(OutputError, match="--overwrite"):
        write_report(tmp_path / "r.html", checked, lr, sr)
    assert (tmp_path / "r.html").read_text() == "old"

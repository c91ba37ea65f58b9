"""The report in a real browser: opened without a network, on a small screen, on paper."""

import re

import pytest
from phantoms import head_volume

pytest.importorskip("starlette", reason="needs the view extra")
pytest.importorskip("playwright", reason="needs the dev extra")
from browsing import CHROMIUM, SCREENSHOTS, chromium

from mrlift.inference.engines import bicubic_engine
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import SHIPPED, Model, load_card
from mrlift.quality import check
from mrlift.quality.report import shown_slices, spread_of, write_report

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")


def test_it_opens_offline_and_prints_on_a4(tmp_path):
    lr = head_volume((96, 80, 5))
    model = Model(load_card(SHIPPED / "mrl-x2-bicubic.json"), bicubic_engine(2))
    sr = upscale(lr, model=model)
    checked = check(lr, sr, model.card)
    shown = shown_slices(checked, lr)
    report = tmp_path / "report.html"
    write_report(report, checked, lr, sr, spread=spread_of(lr, model, shown))
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 720}, offline=True)
        page = context.new_page()
        asked, problems = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(report.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
        assert problems == []
        drawn = page.evaluate(
            "[...document.images].map((i) => i.complete && i.naturalWidth * i.clientWidth > 0)"
        )
        assert len(drawn) == len(shown) * (6 + 2 * 2)
        assert all(drawn)
        first = page.locator("img").first.bounding_box()
        assert first["y"] + first["height"] / 2 < 720  # pictures come first
        assert page.locator("table").bounding_box()["y"] > first["y"] + first["height"]
        page.screenshot(path=SCREENSHOTS / "report.png", full_page=True)
        for width in (1280, 768, 390):
            page.set_viewport_size({"width": width, "height": 720})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        pdf = page.pdf(prefer_css_page_size=True)
        (SCREENSHOTS / "report.pdf").write_bytes(pdf)
        context.close()
    sizes = re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert len(sizes) == len(shown) + 1  # each slice with its maps, then the figures
    assert len(checked.findings) > 2  # warnings stand above the first
    assert all(abs(float(w) - 595) < 2 and abs(float(h) - 842) < 2 for w, h in sizes)

"""Draw the pictures of the viewer and of the report in docs/images.

    python examples/pictures.py

Needs `make viewer`, the dev extra and chromium. The sample series is reduced twice and upscaled
again, so that the low-resolution image is a coarse one.
"""

import os
import shutil
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import mrlift
from mrlift.inference.degradation import degrade
from mrlift.quality import check
from mrlift.quality.report import shown_slices, spread_of, write_report
from mrlift.viewer.app import Given, Settings
from mrlift.viewer.cases import Result
from mrlift.viewer.server import Server

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "images"


def coarse_pair() -> Given:
    """Some slices of the sample at half its resolution, with what the fast weights make of them."""
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted((ROOT / "samples" / "t1w").iterdir())[8:13]:
            shutil.copy(file, folder)
        lr = degrade(mrlift.load(folder), 2)
    model = mrlift.load_model("mrl-fast-x2-bicubic")
    sr = mrlift.upscale(lr, model=model)
    return Given("t1w", lr, Result.of(lr, sr, model.card, new=True))


def zoom(page: Page, image: str, across: float, down: float, steps: int) -> None:
    """Put the cursor on a place in an image, given in shares of its size, and zoom in there."""
    box = page.locator(f"[data-image={image}]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.wait_for_timeout(300)
    for _ in range(steps):
        page.keyboard.press("+")
    page.wait_for_timeout(500)


def draw_report(chromium: Browser) -> None:
    """The first slice of a report on a coarse scan with noise."""
    lr = degrade(mrlift.load(ROOT / "samples" / "t1w"), 2, "kspace", noise=0.01)
    model = mrlift.load_model("mrl-x2-kspace")
    sr = mrlift.upscale(lr, model=model)
    checked = check(lr, sr, model.card)
    spread = spread_of(lr, model, shown_slices(checked, lr))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        write_report(file, checked, lr, sr, spread=spread)
        page = chromium.new_page(viewport={"width": 1000, "height": 720})
        page.goto(file.as_uri())
        second = page.locator("h2").nth(1).bounding_box()
        assert second is not None
        part = {"x": 0.0, "y": 0.0, "width": 1000.0, "height": second["y"] - 12}
        page.screenshot(path=PICTURES / "report.png", full_page=True, clip=part)


def draw(server: Server) -> None:
    """All pictures; those of the viewer in 1280x720."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for scheme, name in (("dark", "viewer.png"), ("light", "viewer-swipe.png")):
            page = chromium.new_page(viewport={"width": 1280, "height": 720}, color_scheme=scheme)
            page.set_default_timeout(600_000)
            page.goto(server.url)
            page.wait_for_selector("body[data-ready]")
            if name == "viewer.png":
                zoom(page, "sr", 0.5, 0.585, 4)
            else:
                page.keyboard.press("3")
                page.wait_for_timeout(500)
                zoom(page, "sr", 0.6, 0.6, 4)
                page.keyboard.press("s")
                page.wait_for_selector("#layer:visible")
                page.wait_for_timeout(500)
            page.screenshot(path=PICTURES / name)
        draw_report(chromium)
        chromium.close()


if __name__ == "__main__":
    server = Server(Settings(coarse_pair(), grace=30.0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        draw(server)
    finally:
        server.stop()
        thread.join()

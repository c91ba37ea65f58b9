"""The page in a real browser: Debian's chromium, driven by Playwright."""

import io
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from serving import serving as serving_with

from mrlift.viewer.server import ASSETS

CHROMIUM = shutil.which("chromium")
NEEDS = [
    pytest.mark.skipif(not (ASSETS / "index.html").exists(), reason="needs `make viewer`"),
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium"),
]
SCREENSHOTS = ROOT / "screenshots"  # kept by CI
PATIENCE = 60_000  # ms, for busy processors
expect.set_options(timeout=PATIENCE)


@contextmanager
def chromium():
    """A browser."""
    SCREENSHOTS.mkdir(exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=arguments)


def is_problem(message):
    """Errors of the page, and refusals by its policy; not a refused upload or the server's end."""
    expected = ("status of 422", "net::ERR_")
    return message.type == "error" and not any(words in message.text for words in expected)


@contextmanager
def looking(browser):
    """Opens the page of a server; fails for any error in it and any request that leaves it."""
    pages, problems = [], []

    def opened(server, **options):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 720}, **options})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        ours = (f"http://127.0.0.1:{server.port}/", "data:", "blob:")
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: is_problem(m) and problems.append(m.text))
        page.on("request", lambda r: r.url.startswith(ours) or problems.append(r.url))
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for page in pages:
        page.close()
    assert problems == []


def serving(given=None):
    """A server with time for a browser that draws on busy processors."""
    return serving_with(given, grace=3.0)


def drawn(page):
    """Waits for what the page draws in its next frame, and for what new sizes make it draw then."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(page, image):
    """The value and the voxel that a pane gives for the cursor."""
    output = page.locator(f"[data-image={image}] .value")
    drawn(page)
    voxel = output.get_attribute("data-voxel")
    return float(output.get_attribute("data-value")), tuple(map(int, voxel.split()))


def agree(page, volumes):
    """The values under the cursor are those of the arrays, all at one place; returns its voxels."""
    found = {name: shown(page, name) for name in volumes}
    for name, (value, voxel) in found.items():
        assert value == pytest.approx(float(volumes[name].voxels[voxel]), rel=1e-6)
    places = [volumes[name].affine @ (*found[name][1], 1) for name in volumes]
    apart = np.abs(places[0] - places[-1]).max()
    assert apart <= max(volumes["lr"].spacing[:2]) / 2 + 1e-3
    return {name: voxel for name, (_, voxel) in found.items()}


def pixels(page, x, y, width, height):
    """Grey values of a part of the page; all of it is captured, since a clip moves the layout."""
    whole = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")).astype(int)
    left, top = int(x), int(y)
    return whole[top : top + max(int(height), 1), left : left + max(int(width), 1)]


def box_of(page, selector):
    """Where an element is, once it can be seen: left, top, width, height."""
    page.wait_for_selector(selector)
    box = page.locator(selector).bounding_box()
    return box["x"], box["y"], box["width"], box["height"]

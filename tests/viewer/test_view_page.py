"""The page in a real browser: what it shows, and what can be done with it."""

import shutil
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from phantoms import head_volume

pytest.importorskip("starlette", reason="needs the view extra")
pytest.importorskip("playwright", reason="needs the dev extra")
from browsing import NEEDS, SCREENSHOTS, agree, box_of, drawn, pixels, serving, shown
from playwright.sync_api import expect
from serving import TINY, eventually, kept, nifti, slow_model

import mrlift
from mrlift.inference.zoo import find_weights
from mrlift.quality import consistency
from mrlift.resampling import bicubic_up
from mrlift.viewer.app import Given
from mrlift.viewer.cases import Result
from mrlift.volume import fit_dtype

pytestmark = NEEDS
SLICES = 4  # of the demo series: chromium draws without a graphics card here


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with some slices of the demo series."""
    folder = tmp_path_factory.mktemp("demo") / "t1w"
    folder.mkdir()
    for file in sorted((ROOT / "samples" / "t1w").iterdir())[8 : 8 + SLICES]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def pair():
    """A small oblique phantom with its result, as the command line gives them."""
    affine = np.array(
        [[-0.8, 0.1, 0.3, 20], [0.12, 0.9, -0.5, -30], [-0.1, 0.2, 3.9, 5], [0, 0, 0, 1]]
    )
    lr = head_volume((60, 52, 5), affine=affine)
    card, _ = find_weights(TINY)
    return Given("head.nii.gz", lr, Result.of(lr, mrlift.upscale(lr, model=TINY), card, new=False))


def bicubic_of(lr):
    planes = [
        fit_dtype(bicubic_up(plane.astype(float), 2), lr.voxels.dtype) for plane in lr.slices()
    ]
    return lr.resized(lr.voxels_from_slices(np.stack(planes)), 2)


def test_the_demo_series_from_folder_to_download(look, demo, tmp_path):
    with serving() as server:
        page = look(server)
        page.locator("#folder").set_input_files(demo)
        page.wait_for_selector("body[data-shown='1 ']")
        page.locator("[data-scale='2']").click()
        page.get_by_label("Weights").select_option(TINY)
        page.get_by_role("button", name="Upscale", exact=True).click()
        expect(page.locator("#progress-text")).to_contain_text(f"of {SLICES}")
        page.wait_for_selector(f"body[data-shown='1 {TINY}']")
        expect(page.locator("#progress")).to_be_hidden()

        lr = mrlift.load(demo)
        sr = mrlift.upscale(lr, model=TINY)
        volumes = {"lr": lr, "bicubic": bicubic_of(lr), "sr": sr}
        seen = set()
        for image in volumes:
            x, y, width, height = box_of(page, f"[data-image={image}]")
            for across, down in ((0.3, 0.45), (0.55, 0.6), (0.7, 0.4)):
                page.mouse.move(x + across * width, y + down * height)
                seen.add(agree(page, volumes)["sr"])
        assert len(seen) == 3  # the same place in every image has the same voxel
        page.mouse.wheel(0, -120)
        assert agree(page, volumes)["lr"][2] == SLICES // 2 + 1
        page.screenshot(path=SCREENSHOTS / "demo.png")

        with page.expect_download() as download:
            page.get_by_role("link", name="Download t1w_x2.zip").click()
        download.value.save_as(tmp_path / "got.zip")
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        archive.extractall(tmp_path)
    derived = mrlift.load(tmp_path / "t1w_x2")
    np.testing.assert_array_equal(derived.voxels, sr.voxels)
    np.testing.assert_allclose(derived.affine, sr.affine, atol=1e-4)


def test_what_is_drawn_is_what_is_stored(look, pair):
    """Grey values on the screen, in the middle of large voxels, on an oblique grid."""
    with serving(pair) as server:
        page = look(server)
        page.keyboard.press("x")  # no cursor over the voxels
        for _ in range(12):
            page.keyboard.press("+")
        drawn(page)
        low, high = np.percentile(pair.lr.voxels, (0.5, 99.8))
        compared = 0
        for image, volume in (("lr", pair.lr), ("sr", pair.result.sr)):
            x, y, *_ = box_of(page, f"[data-image={image}]")
            for _ in range(4):
                page.keyboard.press("ArrowRight")
                value, voxel = shown(page, image)
                assert value == volume.voxels[voxel]
                transform = page.locator(f"[data-image={image}] .cross").evaluate(
                    "cross => new DOMMatrix(cross.style.transform).toJSON()"
                )
                grey = pixels(page, x + transform["e"], y + transform["f"], 1, 1)[0, 0]
                assert grey == pytest.approx(
                    255 * np.clip((value - low) / (high - low), 0, 1), abs=3
                )
                compared += 1
        assert compared == 8


def test_the_slider_uncovers_sr(look, pair):
    with serving(pair) as server:
        page = look(server)
        page.keyboard.press("2")
        drawn(page)
        stage = box_of(page, "#stage")
        middle = (stage[0], stage[1] + stage[3] * 0.3, stage[2], stage[3] * 0.15)  # no labels there
        divider = page.get_by_role("slider", name="Swipe")
        seen = {}
        for percent, key in ((0, "Home"), (100, "End")):
            divider.press(key)
            page.mouse.move(5, 5)
            seen[percent] = pixels(page, *middle)
            assert divider.get_attribute("aria-valuenow") == str(percent)
        assert np.abs(seen[0] - seen[100]).max() > 40  # SR and LR do differ
        x, y, _, height = box_of(page, "#divider")
        page.mouse.move(x + 5, y + height / 2)  # its right half is beyond the edge
        page.mouse.down()
        page.mouse.move(stage[0] + stage[2] * 0.4, y + height / 2, steps=3)
        page.mouse.up()
        assert divider.get_attribute("aria-valuenow") == "40"
        half, cut = pixels(page, *middle), round(stage[2] * 0.4)
        np.testing.assert_array_equal(half[:, : cut - 20], seen[100][:, : cut - 20])
        np.testing.assert_array_equal(half[:, cut + 20 :], seen[0][:, cut + 20 :])
        page.screenshot(path=SCREENSHOTS / "swipe.png")


def test_keyboard_alone(look, pair, monkeypatch, tmp_path):
    slow_model(monkeypatch, 2.0)
    with serving(pair) as server:
        page = look(server)
        press, text = page.keyboard.press, lambda selector: page.locator(selector).text_content()
        volumes = {"lr": pair.lr, "bicubic": bicubic_of(pair.lr), "sr": pair.result.sr}
        before = agree(page, volumes)["sr"]
        press("ArrowRight")
        press("Shift+ArrowDown")
        right = agree(page, volumes)["sr"]
        assert sorted(abs(a - b) for a, b in zip(before, right, strict=True)) == [0, 1, 10]
        press("PageUp")
        expect(page.locator("#slice-number")).to_have_text("4 / 5")
        assert agree(page, volumes)["lr"][2] == 3
        for key, attribute in (("i", "#smooth"), ("x", "#cross")):
            old = page.locator(attribute).get_attribute("aria-pressed")
            press(key)
            drawn(page)
            assert page.locator(attribute).get_attribute("aria-pressed") != old
        press("+")
        press("]")
        drawn(page)
        assert text("#zoom-level").startswith("1.3")
        level = text("#level-number")
        press("[")
        drawn(page)
        assert text("#level-number") != level
        press("3")
        press("d")
        assert page.locator("#divider").get_attribute("aria-valuenow") == "55"
        press("r")
        page.wait_for_selector("#layer:visible")
        press("?")
        expect(page.locator("#help")).to_be_visible()
        press("Escape")
        expect(page.locator("#help")).to_be_hidden()
        press("u")
        page.wait_for_selector("#cancel:focus")
        press("Escape")
        page.wait_for_selector("#start:focus:enabled")
        assert text("#live") == "Cancelled"
        with page.expect_file_chooser() as chooser:
            page.locator("aside [data-open=file]").focus()
            press("Enter")
        nifti(tmp_path)
        chooser.value.set_files(tmp_path / "phantom.nii.gz")
        page.wait_for_selector("body[data-shown='2 ']")
        assert text("#case") == "phantom.nii.gz"


def test_everything_can_be_reached_and_seen_to_be(look, pair):
    """Tab reaches every control, each with a name and a visible focus."""
    with serving(pair) as server:
        page = look(server)
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            facts = page.evaluate(
                """() => {
                  const e = document.activeElement, style = getComputedStyle(e);
                  const label = e.getAttribute("aria-label") || e.labels?.[0]?.textContent;
                  const { open, layer, scale, tool } = e.dataset;
                  return [e.id || open || layer || scale || tool || e.tagName,
                    (label || e.textContent).trim(), style.outlineStyle];
                }"""
            )
            if facts[0] in (name for name, *_ in reached):
                break
            if facts[0] != "BODY":
                reached.append(facts)
        assert all(name and outline != "none" for _, name, outline in reached), reached
        controls = {
            "layout-side",
            "theme",
            "help-open",
            "stage",
            "slice",
            "file",
            "folder",
            "model",
        }
        controls |= {"start", "residual", "spread", "level", "width", "smooth", "cross", "reset"}
        assert controls <= {name for name, *_ in reached}


def test_overlays_with_units(look, pair):
    with serving(pair) as server:
        page = look(server)
        page.keyboard.press("r")
        page.wait_for_selector("#layer:visible")
        found = consistency(pair.lr, pair.result.sr, pair.result.card)
        expect(page.locator("#high")).to_have_text(f"≥ {4 * found.noise:#.3g}".rstrip("."))
        expect(page.locator("#unit")).to_have_text("signal units")
        assert page.locator("[data-image=sr] .over").text_content().startswith("residual ")
        for _ in range(3):
            page.keyboard.press("ArrowUp")
            _, voxel = shown(page, "lr")
            value = float(page.locator("[data-image=sr] .over").get_attribute("data-value"))
            assert value == pytest.approx(float(found.residual.voxels[voxel]), abs=1e-3)
        page.keyboard.press("s")
        expect(page.locator("#layer-text")).to_contain_text("eight")
        expect(page.locator("[data-layer=spread]")).to_be_focused()
        assert float(page.locator("[data-image=sr] .over").get_attribute("data-value")) >= 0
        page.keyboard.press("n")
        page.wait_for_selector("#layer", state="hidden")


def test_wrong_kinds_are_told_on_the_page(look, tmp_path):
    (tmp_path / "notes.nii").write_text("no image")
    with serving() as server:
        page = look(server)
        page.locator("#file").set_input_files(tmp_path / "notes.nii")
        page.wait_for_selector("#message:visible")
        text = page.locator("#message-text").text_content()
        assert "notes.nii cannot be read as NIfTI" in text
        page.get_by_role("button", name="Close the message").click()
        expect(page.locator("#message")).to_be_hidden()
        expect(page.locator("#welcome")).to_be_visible()


def test_a_closed_tab_in_the_midst_of_work(look, pair, monkeypatch):
    slow_model(monkeypatch, 2.0)
    with serving(pair) as server:
        page = look(server)
        page.keyboard.press("u")
        expect(page.locator("#progress-text")).to_contain_text("of")
        assert kept(server)
        page.close()
        eventually(lambda: kept(server) == [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("width", "height", "touch"), [(1280, 720, False), (1024, 768, True), (768, 1024, True)]
)
def test_sizes_and_schemes(look, pair, scheme, width, height, touch):
    """A small screen, and a tablet held either way, with room for fingers."""
    with serving(pair) as server:
        size = {"width": width, "height": height}
        page = look(server, viewport=size, color_scheme=scheme, has_touch=touch)
        page.keyboard.press("r")
        page.wait_for_selector("#legend")
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("lr", "bicubic", "sr"):
            x, y, w, h = box_of(page, f"[data-image={name}]")
            assert w >= 250
            assert h > 250
            assert x >= 0
            assert x + w <= width
            assert y + h <= height
        for selector in ("#start", "#slice", "#layout-lr", "#theme", "#legend canvas"):
            x, y, w, h = box_of(page, selector)
            assert 0 <= x <= x + w <= width
            assert 0 <= y <= y + h <= height
            assert h >= (40 if touch else 24) or selector == "#legend canvas"
        back = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        assert (sum(page.evaluate(back)) > 382) == (scheme == "light")
        page.screenshot(path=SCREENSHOTS / f"{width}x{height}-{scheme}.png")
        page.keyboard.press("t")
        assert (sum(page.evaluate(back)) > 382) == (scheme == "dark")


def test_orientation_letters_are_those_of_the_patient(look, pair):
    """The letter at each side is that of the direction in which voxels go there."""
    with serving(pair) as server:
        page = look(server)
        for side, key in (("right", "ArrowRight"), ("bottom", "ArrowDown")):
            _, before = shown(page, "sr")
            page.keyboard.press(f"Shift+{key}")
            _, after = shown(page, "sr")
            step = pair.result.sr.affine[:3, :3] @ np.subtract(after, before)
            axis = int(np.argmax(np.abs(step)))
            letter = ("LR", "PA", "IS")[axis][int(step[axis] > 0)]
            expect(page.locator(f"[data-image=sr] .{side}")).to_have_text(letter)
        expect(page.locator("[data-image=lr] .left")).to_have_text("R")


def test_what_needs_a_result_waits_for_one(look, pair):
    needing = [f"#layout-{name}" for name in ("lr", "bicubic")]
    needing += [f"[data-layer={name}]" for name in ("residual", "spread")]
    with serving(Given("head.nii.gz", pair.lr)) as server:
        page = look(server)
        assert all(page.locator(selector).is_disabled() for selector in needing)
        page.get_by_label("Weights").select_option(TINY)
        expect(page.locator("#model-text")).to_have_text("For an image that was reduced.")
        page.locator("#start").press("Enter")
        page.wait_for_selector(f"body[data-shown='1 {TINY}']")
        page.wait_for_selector("#download:focus")  # Cancel, which had it, is gone
        assert all(page.locator(selector).is_enabled() for selector in needing)
        assert page.locator("#model").input_value() == TINY

"""How series come into the page in a real browser: dropped, chosen, of several volumes, cut off."""

import asyncio
import base64
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nibabel
import numpy as np
import pytest
from phantoms import head, head_volume, write_series

pytest.importorskip("starlette", reason="needs the view extra")
pytest.importorskip("playwright", reason="needs the dev extra")
from browsing import NEEDS, SCREENSHOTS, agree, serving, shown
from playwright.sync_api import expect
from serving import TINY, eventually, kept, nifti

import mrlift
from mrlift.viewer.uploads import Upload

pytestmark = NEEDS


def drag(page, path, *steps):
    """What the browser gets while a file or folder of this machine is dragged over the page."""
    mouse = page.context.new_cdp_session(page)
    for step in steps:
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        event = {"type": step, "x": 500, "y": 400, "data": data}
        mouse.send("Input.dispatchDragEvent", event)


def test_a_nifti_file_is_dropped(look, tmp_path):
    nifti(tmp_path)
    with serving() as server:
        page = look(server)
        drag(page, tmp_path / "phantom.nii.gz", "dragEnter", "dragOver")
        page.wait_for_selector("body.dropping")
        page.screenshot(path=SCREENSHOTS / "dropping.png")
        drag(page, tmp_path / "phantom.nii.gz", "drop")
        page.wait_for_selector("body[data-shown='1 ']:not(.dropping)")
        expect(page.locator("#case")).to_have_text("phantom.nii.gz")
        agree(page, {"lr": mrlift.load(tmp_path / "phantom.nii.gz")})


def test_a_file_without_a_place_on_the_disk_is_dropped(look, tmp_path):
    """As scripts and some programs hand it over."""
    content = base64.b64encode(nifti(tmp_path)).decode()
    drop = """([content, name]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        if (name) data.items.add(new File([bytes], name));
        else data.setData("text/plain", "words");
        const options = { dataTransfer: data, bubbles: true, cancelable: true };
        const event = new DragEvent("drop", options);
        document.getElementById("welcome").dispatchEvent(event);
    }"""
    with serving() as server:
        page = look(server)
        page.evaluate(drop, [content, ""])
        expect(page.locator("#message-text")).to_contain_text("Drop a NIfTI file or a DICOM folder")
        page.keyboard.press("Escape")
        expect(page.locator("#message")).to_be_hidden()
        page.evaluate(drop, [content, "given.nii.gz"])
        page.wait_for_selector("body[data-shown='1 ']")
        expect(page.locator("#case")).to_have_text("given.nii.gz")


def test_a_dropped_folder_with_two_series_asks_which(look, tmp_path):
    study = tmp_path / "study"
    write_series(study / "a", head((24, 20, 3)), series="1.2.3.4")
    write_series(study / "b" / "deep", head((16, 12, 2)), series="1.2.3.5")
    with serving() as server:
        page = look(server)
        drag(page, study, "dragEnter", "dragOver", "drop")
        page.wait_for_selector("#series:focus")
        offered = page.locator("#series option").all_text_contents()
        slices, columns, rows = re.findall(r"\d+", offered[1])
        assert (slices, columns, rows) == ("2", "16", "12")
        assert len(offered) == 2
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-shown='1 ']")
        expect(page.locator("#case")).to_have_text("study")
        expect(page.locator("#slice-number")).to_have_text("2 / 2")
        expect(page.locator("#choose")).to_be_hidden()


def test_a_folder_is_chosen(look, tmp_path):
    write_series(tmp_path / "head", head((24, 20, 3)))
    with serving() as server:
        page = look(server)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a DICOM folder").click()
        chooser.value.set_files(tmp_path / "head")
        page.wait_for_selector("body[data-shown='1 ']")
        assert page.locator("#facts").text_content().startswith("FormatDICOM")
        agree(page, {"lr": mrlift.load(tmp_path / "head")})


def test_a_file_of_several_volumes(look, tmp_path):
    """Each is shown at its time, and all of them are upscaled."""
    frames = [head_volume((40, 48, 3)).voxels // k for k in (1, 2, 3)]
    four = nibabel.Nifti1Image(np.stack(frames, -1), np.diag([0.8, 0.8, 4, 1]))
    nibabel.save(four, tmp_path / "four.nii.gz")
    lr = mrlift.load(tmp_path / "four.nii.gz")
    sr = mrlift.upscale(lr, model=TINY)
    with serving() as server:
        page = look(server)
        page.locator("#file").set_input_files(tmp_path / "four.nii.gz")
        page.wait_for_selector("body[data-shown='1 ']")
        page.get_by_label("Weights").select_option(TINY)
        page.get_by_role("button", name="Upscale", exact=True).click()
        page.wait_for_selector(f"body[data-shown='1 {TINY}']")
        page.get_by_label("Time").focus()
        for time in range(3):
            expect(page.locator("#time-number")).to_have_text(f"{time + 1} / 3")
            for image, volume in (("lr", lr), ("sr", sr)):
                value, voxel = shown(page, image)
                assert value == float(volume.voxels[(*voxel, time)])
            page.keyboard.press("ArrowRight")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download four_x2.nii.gz").click()
        download.value.save_as(tmp_path / "got.nii.gz")
    np.testing.assert_array_equal(mrlift.load(tmp_path / "got.nii.gz").voxels, sr.voxels)


@pytest.fixture
def slow_upload(monkeypatch, tmp_path):
    """A file that takes half a minute to arrive."""
    receive = Upload.receive

    async def slowly(chunks):
        async for chunk in chunks:
            await asyncio.sleep(0.2)
            yield chunk

    monkeypatch.setattr(Upload, "receive", lambda self, name, c: receive(self, name, slowly(c)))
    path = tmp_path / "large.nii"
    path.write_bytes(bytes(10_000_000))
    return path


def files_of(server):
    return [path for path in kept(server) if (server.folder / path).is_file()]


def test_an_upload_is_cancelled_in_the_midst_of_a_file(look, slow_upload, tmp_path, caplog):
    nifti(tmp_path)
    with serving() as server:
        page = look(server)
        page.locator("#file").set_input_files(slow_upload)
        expect(page.locator("#progress-text")).to_contain_text("large.nii")
        eventually(lambda: files_of(server))
        page.locator("#file").set_input_files(tmp_path / "phantom.nii.gz")  # one at a time
        expect(page.locator("#message-text")).to_contain_text("Something is going on")
        page.keyboard.press("Escape")
        expect(page.locator("#live")).to_have_text("Cancelled")
        eventually(lambda: files_of(server) == [])
        expect(page.locator("#progress")).to_be_hidden()
        page.locator("#file").set_input_files(tmp_path / "phantom.nii.gz")
        page.wait_for_selector("body[data-shown='1 ']")
    assert caplog.text == ""


def test_a_tab_closed_in_the_midst_of_an_upload(look, slow_upload, caplog):
    with serving() as server:
        page = look(server)
        page.locator("#file").set_input_files(slow_upload)
        eventually(lambda: files_of(server))
        page.close()
        eventually(lambda: kept(server) == [])
    assert caplog.text == ""


def test_a_page_of_another_port_gets_nothing(browser, tmp_path):
    """To a browser it is of the same site, and our cookie goes with what it asks."""
    (tmp_path / "evil.html").write_text("<!doctype html><title>another page</title>")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    evil = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=tmp_path))
    threading.Thread(target=evil.serve_forever).start()
    asks = """async ([url, method, mode]) => {
        try { return (await fetch(url, { method, mode, credentials: "include" })).type; }
        catch { return "refused"; }
    }"""
    try:
        with serving() as server:
            base = f"http://127.0.0.1:{server.port}"
            page = browser.new_context().new_page()
            page.goto(server.url)
            page.wait_for_selector("body[data-ready]")
            before = kept(server)
            other = page.context.new_page()
            other.goto(f"http://127.0.0.1:{evil.server_port}/evil.html")
            for method, mode in (("GET", "cors"), ("POST", "cors"), ("PUT", "cors")):
                assert other.evaluate(asks, [f"{base}/api/tabs", method, mode]) == "refused"
            other.evaluate(asks, [f"{base}/api/tabs", "POST", "no-cors"])  # sent, not answered
            assert kept(server) == before
            framed = other.evaluate(
                """(url) => new Promise((done) => {
                    const frame = document.createElement("iframe");
                    frame.onload = () => {
                        try { done(frame.contentDocument?.title ?? "hidden"); }
                        catch { done("hidden"); }
                    };
                    frame.src = url;
                    document.body.append(frame);
                })""",
                f"{base}/",
            )
            assert framed == "hidden"
            page.context.close()
    finally:
        evil.shutdown()
        evil.server_close()

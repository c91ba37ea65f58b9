"""Who may ask the server, and who may not."""

import gzip
import http.client
import stat

import httpx
import pytest

pytest.importorskip("starlette", reason="needs the view extra")
from serving import Page, serving

from mrlift.viewer import app

SCRIPT = b"let a = 1;\n" * 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose page need not have been built."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("the page")
    (folder / "assets" / "a.js.gz").write_bytes(gzip.compress(SCRIPT, mtime=0))
    (folder / "secret.txt.gz").write_bytes(b"beside the assets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ASSETS", folder)
        with serving() as running:
            yield running


@pytest.fixture
def page(server):
    """The server's page with its cookie, without its stream of events."""
    opened = Page(server)
    yield opened
    opened.http.close()


def base(server):
    return f"http://127.0.0.1:{server.port}"


def test_the_address_with_the_token_opens_the_page(server):
    answer = httpx.get(server.url)
    assert answer.text == "the page"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert server.url.split("=")[1] not in cookie


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/assets/a.js", "/api/tabs"])
def test_without_the_token_nothing_is_answered(server, path):
    for method in ("GET", "POST"):
        answer = httpx.request(method, base(server) + path, headers={"origin": base(server)})
        assert answer.status_code == 403
        assert "the page" not in answer.text
        assert "set-cookie" not in answer.headers


def test_the_token_opens_the_page_only(server):
    token = server.url.split("?")[1]
    answer = httpx.post(f"{base(server)}/api/tabs?{token}", headers={"origin": base(server)})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "127.0.0.1.evil:{port}"],
)
def test_other_names_for_this_machine_are_refused(server, host):
    """DNS rebinding: the browser believes that another site's name is ours."""
    headers = {"host": host.format(port=server.port)}
    assert httpx.get(server.url, headers=headers).status_code == 403
    assert httpx.get(server.url).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "https://127.0.0.1:{port}"]
)
def test_other_origins_cannot_change_anything(server, page, origin):
    page.http.headers["origin"] = origin.format(port=server.port)
    for method, path in (
        ("POST", "/api/tabs"),
        ("POST", f"{page.api}/upload"),
        ("PUT", f"{page.api}/upload?name=a.nii"),
        ("POST", f"{page.api}/job"),
        ("DELETE", f"{page.api}/job"),
    ):
        assert page.http.request(method, path).status_code == 403
    del page.http.headers["origin"]
    assert page.http.post("/api/tabs").status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_and_ports_cannot_read(page, site):
    assert page.http.get("/", headers={"sec-fetch-site": "same-origin"}).text == "the page"
    assert page.http.get("/", headers={"sec-fetch-site": site}).status_code == 403


def test_every_answer_has_the_headers_that_keep_others_out(server, page):
    answers = [
        page.http.get("/"),
        page.http.get("/nowhere"),
        page.http.post(f"{page.api}/upload", content=b"{"),
        httpx.get(base(server)),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 422, 403]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/assets/../secret.txt", "/assets/%2e%2e/secret.txt", "/assets/..%2fsecret.txt"]
)
def test_assets_end_at_their_folder(server, page, path):
    cookie = "; ".join(f"{name}={value}" for name, value in page.http.cookies.items())
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", path, headers={"cookie": cookie})
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"beside" not in answer.read()
    connection.close()


def test_files_are_sent_compressed_or_unpacked_as_asked(server, page):
    kinds = []
    for accepted, encoding in (("gzip, deflate, br", "gzip"), ("identity", None)):
        headers = {"accept-encoding": accepted}
        with page.http.stream("GET", f"{base(server)}/assets/a.js", headers=headers) as answer:
            sent = b"".join(answer.iter_raw())
        assert answer.status_code == 200
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert len(sent) == int(answer.headers["content-length"])
        assert (gzip.decompress(sent) if encoding else sent) == SCRIPT
        kinds.append(answer.headers["content-type"])
    assert set(kinds) == {"text/javascript; charset=utf-8"}
    assert page.http.get(f"{base(server)}/assets/a.js").content == SCRIPT
    assert page.http.get(f"{base(server)}/assets/b.js").status_code == 404


def test_loopback_only_and_a_folder_for_the_user_alone(server):
    assert server.url.startswith("http://127.0.0.1:")
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    door = server.door()
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    assert server.url in door.read_text()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"name": 1, "bytes": 1}', b"x" * 70_000])
def test_requests_of_another_shape_are_refused(page, body):
    answer = page.http.post(f"{page.api}/upload", content=body)
    assert answer.status_code in (413, 422)
    assert "Expected" in answer.json()["error"]


def test_tabs_are_told_apart(page):
    other = page.http.post("/api/tabs").json()["tab"]
    assert other not in page.api
    answer = page.http.get("/api/tabs/guessed/events")
    assert answer.status_code == 422
    assert "Reload" in answer.json()["error"]

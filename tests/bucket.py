"""A local HTTP server that answers as a public S3 bucket does, and can be made to fail."""

import hashlib
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 100  # S3 lists 1000 at a time; fewer make every series of a test need several pages


class Bucket:
    """Objects by "bucket/key"; `faults` of a key are used up, one per request, from the left.

    Faults: "cut" ends the connection halfway, "spoil" changes a byte, "hang" answers no more, and a
    number is an HTTP status.
    """

    def __init__(self):
        self.objects = {}
        self.tags = {}
        self.faults = defaultdict(list)
        self.requests = []
        self.url = ""

    def put(self, name, content, tag=None):
        self.objects[name] = content
        self.tags[name] = tag or hashlib.md5(content, usedforsecurity=False).hexdigest()

    def put_series(self, bucket, prefix, files):
        for file in files:
            self.put(f"{bucket}/{prefix}/{file.name}", file.read_bytes())

    def fetched(self):
        """The keys that were asked for, without listings."""
        return [path for path, _ in self.requests if not path.endswith("?")]


@contextmanager
def serve():
    """Yield a Bucket whose `url` answers."""
    bucket = Bucket()
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            url = urlsplit(self.path)
            name, query = unquote(url.path).lstrip("/"), parse_qs(url.query)
            listing = "list-type" in query
            bucket.requests.append((name + "?" * listing, self.headers.get("Range")))
            if listing:
                self._list(name, query)
            else:
                self._get(name)

        def _list(self, name, query):
            prefix = f"{name}/{query['prefix'][0]}"
            names = sorted(n for n in bucket.objects if n.startswith(prefix))
            start = int(query.get("continuation-token", ["0"])[0])
            page = names[start : start + PAGE]
            more = start + PAGE < len(names)
            entries = "".join(
                f"<Contents><Key>{escape(n.split('/', 1)[1])}</Key>"
                "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{bucket.tags[n]}&quot;</ETag><Size>{len(bucket.objects[n])}</Size>"
                "</Contents>"
                for n in page
            )
            token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" * more
            self._answer(
                200,
                f'<?xml version="1.0"?><ListBucketResult><IsTruncated>{str(more).lower()}'
                f"</IsTruncated>{token}{entries}</ListBucketResult>".encode(),
            )

        def _get(self, name):
            fault = bucket.faults[name].pop(0) if bucket.faults[name] else None
            if fault == "hang":
                done.wait()
            if isinstance(fault, int):
                return self._answer(fault, b"")
            if name not in bucket.objects:
                return self._answer(404, b"")
            content = bucket.objects[name]
            headers = {"ETag": f'"{bucket.tags[name]}"'}
            status, start = 200, 0
            if asked := self.headers.get("Range"):
                start = int(asked.removeprefix("bytes=").split("-")[0])
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            if fault == "spoil":
                body = body[:-1] + bytes([body[-1] ^ 1])
            return self._answer(status, body, headers, cut=fault == "cut")

        def _answer(self, status, body, headers=None, *, cut=False):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # a client that was killed is what the test is about

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()

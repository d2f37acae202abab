"""A small server on localhost that stands in for a bucket."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Bucket(BaseHTTPRequestHandler):
    """The part of Google Cloud Storage's JSON interface that TensorStore's driver uses."""

    objects: dict  # name -> (generation, content)
    locked: set  # names of objects that may not be read
    guard = threading.Lock()
    writes = 0

    def log_message(self, *arguments):
        pass

    def answer(self, code, content=b"", headers=()):
        self.send_response(code)
        for key, value in (*headers, ("Content-Length", str(len(content)))):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def entry(self, name):
        generation, content = self.objects[name]
        entry = {"name": name, "generation": str(generation), "size": str(len(content))}
        return {"kind": "storage#object", "metageneration": "1", **entry}

    def meets(self, options, name):
        """True if the object has the generation that a conditional request asks for."""
        wanted = options.get("ifGenerationMatch")
        return wanted is None or int(wanted[0]) == self.objects.get(name, (0, b""))[0]

    def parts(self):
        url = urlsplit(self.path)
        name = unquote(url.path.partition("/o/")[2]) or None
        return name, parse_qs(url.query)

    def do_GET(self):
        name, options = self.parts()
        with self.guard:
            if name is None:
                prefix, start, end = (
                    options.get(key, [""])[0] for key in ("prefix", "startOffset", "endOffset")
                )
                names = [n for n in sorted(self.objects) if n.startswith(prefix) and n >= start]
                items = [self.entry(n) for n in names if not end or n < end]
                return self.answer(200, json.dumps({"items": items}).encode())
            if name not in self.objects:
                return self.answer(404)
            generation, content = self.objects[name]
            if name in self.locked:
                return self.answer(403, b'{"error": {"code": 403, "message": "you may not"}}')
            if options.get("alt") != ["media"]:
                return self.answer(200, json.dumps(self.entry(name)).encode())
            if options.get("ifGenerationNotMatch") == [str(generation)]:
                return self.answer(304)
            if not self.meets(options, name):
                return self.answer(412)
            return self.answer(200, content, [("X-Goog-Generation", str(generation))])

    def do_POST(self):
        _, options = self.parts()
        name = options["name"][0]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.guard:
            if not self.meets(options, name):
                return self.answer(412)
            Bucket.writes += 1
            self.objects[name] = (self.writes, content)
            return self.answer(200, json.dumps(self.entry(name)).encode())

    def do_DELETE(self):
        name, options = self.parts()
        with self.guard:
            if not self.meets(options, name):
                return self.answer(412)
            there = self.objects.pop(name, None)
            return self.answer(204 if there else 404)


@contextmanager
def served():
    """Environment in which TensorStore finds the bucket, empty at first."""
    Bucket.objects, Bucket.locked = {}, set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{server.server_port}",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        }
        server.shutdown()

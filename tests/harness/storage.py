"""A server on loopback that speaks as much of Cloud Storage's JSON API as runs use."""

import base64
import contextlib
import datetime
import email.utils
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from typing import NamedTuple


class Object(NamedTuple):
    data: bytes
    generation: int
    updated: datetime.datetime


class Storage:
    """What buckets hold, to be looked at and changed.

    Attributes:
      buckets: name -> name of an object -> what it is.
      denied: buckets to which there are no rights.
      readonly: buckets that may only be read.
      created: buckets that somebody has tried to make.
      later: what the server's clock shows beyond the time.
    """

    def __init__(self):
        self.buckets = {}
        self.denied, self.readonly, self.created = set(), set(), []
        self.later = datetime.timedelta()
        self._generations = itertools.count(1)
        self.lock = threading.Lock()

    def now(self):
        return datetime.datetime.now(datetime.UTC) + self.later

    def put(self, bucket, name, data):
        made = Object(data, next(self._generations), self.now())
        self.buckets[bucket][name] = made
        return made


class Refused(Exception):
    """An answer that is an error."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    storage: Storage
    uploads = {}

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        del timestamp  # the storage has a clock of its own
        return email.utils.format_datetime(self.storage.now(), usegmt=True)

    def handle(self):
        with contextlib.suppress(ConnectionError):  # a client that was killed
            super().handle()

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        path = re.sub(r"^/(upload/|download/)?storage/v1/", "", url.path)
        parts = [urllib.parse.unquote(part) for part in path.split("/")]
        try:
            with self.storage.lock:
                answer = self._answer(parts, query, body)
        except Refused as error:
            code, message = error.args
            said = {"error": {"code": code, "message": message}}
            answer = code, json.dumps(said).encode(), {}
        self._send(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    def _chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, code, body=b"", headers=None):
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # nobody waits for it any more
            self.wfile.write(b"" if self.command == "HEAD" else body)
            self.wfile.flush()

    def _answer(self, parts, query, body):
        if parts == ["b"]:
            self.storage.created.append(json.loads(body)["name"])
            raise Refused(403, "no rights to create buckets")
        bucket = parts[1]
        if bucket in self.storage.denied:
            raise Refused(403, f"no rights to {bucket}")
        if bucket not in self.storage.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        if self.command not in ("GET", "HEAD") and bucket in self.storage.readonly:
            raise Refused(403, f"no rights to write to {bucket}")
        if len(parts) == 2:
            return _json({"kind": "storage#bucket", "name": bucket})
        if len(parts) == 3:
            if self.command == "GET":
                return self._list(bucket, query)
            return self._upload(bucket, query, body)
        name = "/".join(parts[3:])
        if self.command == "DELETE":
            self._check(bucket, name, query, must_exist=True)
            del self.storage.buckets[bucket][name]
            return 204, b"", {}
        return self._read(bucket, name, query)

    def _check(self, bucket, name, query, *, must_exist):
        found = self.storage.buckets[bucket].get(name)
        if found is None and must_exist:
            raise Refused(404, f"No such object: {bucket}/{name}")
        generation = str(found.generation if found else 0)
        if query.get("ifGenerationMatch", generation) != generation:
            raise Refused(412, "conditionNotMet")
        if query.get("generation", generation) != generation:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return found

    def _read(self, bucket, name, query):
        found = self._check(bucket, name, query, must_exist=True)
        if query.get("ifGenerationNotMatch") == str(found.generation):
            return 304, b"", {}
        if query.get("alt") != "media":
            return _json(_described(bucket, name, found))
        headers = {
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Stored-Content-Length": str(len(found.data)),
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, found.data, headers
        size = len(found.data)
        if wanted[1]:
            start, stop = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
        else:
            start, stop = max(size - int(wanted[2]), 0), size
        if start >= size:
            raise Refused(416, "range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return 206, found.data[start:stop], headers

    def _list(self, bucket, query):
        prefix, cut = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name, found in sorted(self.storage.buckets[bucket].items()):
            inside = name.startswith(prefix)
            if not inside or name < query.get("startOffset", ""):
                continue
            if "endOffset" in query and name >= query["endOffset"]:
                continue
            head, found_cut, _ = name[len(prefix) :].partition(cut or "\0")
            if cut and found_cut:
                prefixes.add(prefix + head + cut)
            else:
                items.append(_described(bucket, name, found))
        listing = {"kind": "storage#objects", "items": items}
        return _json({**listing, "prefixes": sorted(prefixes)})

    def _upload(self, bucket, query, body):
        kind = query["uploadType"]
        if kind == "resumable":
            return self._resume(bucket, query, body)
        name, data = query.get("name"), body
        if kind == "multipart":
            message = self.headers["Content-Type"]
            border = re.search(r'boundary="?([^";]+)', message)[1].encode()
            _, meta, content, _ = body.split(b"--" + border)
            meta, content = (
                re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]
                for part in (meta, content)
            )
            name, data = json.loads(meta)["name"], re.sub(rb"\r?\n\Z", b"", content)
        return self._made(bucket, name, query, data)

    def _resume(self, bucket, query, body):
        if "upload_id" not in query:
            key = str(len(self.uploads))
            name = query.get("name") or json.loads(body)["name"]
            self.uploads[key] = name, query, b""
            place = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o"
            place += f"?uploadType=resumable&upload_id={key}"
            return 200, b"", {"Location": place}
        name, first, data = self.uploads[query["upload_id"]]
        data += body
        self.uploads[query["upload_id"]] = name, first, data
        if self.headers.get("Content-Range", "").endswith("/*"):
            return 308, b"", {"Range": f"bytes=0-{len(data) - 1}"}
        return self._made(bucket, name, first, data)

    def _made(self, bucket, name, query, data):
        self._check(bucket, name, query, must_exist=False)
        return _json(_described(bucket, name, self.storage.put(bucket, name, data)))


def _json(value):
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _described(bucket, name, found):
    import google_crc32c  # which gcsfs brings; this module is read without it too

    crc = google_crc32c.value(found.data).to_bytes(4, "big")
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(found.data)),
        "generation": str(found.generation),
        "metageneration": "1",
        "updated": found.updated.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "crc32c": base64.b64encode(crc).decode(),
    }


@contextlib.contextmanager
def serving():
    """A storage and the address of its server."""
    storage = Storage()
    handler = type("Bound", (Handler,), {"storage": storage, "uploads": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield storage, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

"""A hub on this machine: what its API says to the calls that make a repository, commit files, and fetch them again."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

Repositories = dict[str, dict[str, bytes]]  # files by path, by repository
CLOSED = "closed"  # an owner for whom nobody may write
_REPOSITORY = r"/api/models/([^/]+/[^/]+)"


@contextmanager
def local_hub() -> Iterator[tuple[str, Repositories]]:
    """Its address and what lies in it; ended with the block."""
    held: Repositories = {}
    handler = type("Handler", (_Handler,), {"held": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler.address, held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Repositories
    address: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        """Nothing is said."""

    def do_POST(self) -> None:
        path, body = unquote(self.path.partition("?")[0]), self._body()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name.startswith(f"{CLOSED}/"):
                return self._json({"error": f"{CLOSED} is not yours"}, 403)
            there = name in self.held
            self.held.setdefault(name, {})
            return self._json({"url": f"{self.address}/{name}"}, 409 if there else 200)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if found := re.fullmatch(_REPOSITORY + "/preupload/main", path):
            files = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if found := re.fullmatch(_REPOSITORY + "/commit/main", path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.held[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = self._sha(found[1])
            return self._json(
                {"commitUrl": f"{self.address}/{found[1]}/commit/{oid}", "commitOid": oid, "success": True}
            )
        return self._json({"error": f"POST {path}"}, 404)

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if (found := re.fullmatch(_REPOSITORY + r"(?:/revision/[^/]+)?", path)) and found[1] in self.held:
            files = self.held[found[1]]
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            return self._json({"id": found[1], "sha": self._sha(found[1]), "siblings": siblings, "private": False})
        if (found := re.fullmatch(_REPOSITORY + r"/tree/[^/]+", path)) and found[1] in self.held:
            files = self.held[found[1]]
            return self._json([{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()])
        if (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)) and found[1] in self.held:
            content = self.held[found[1]].get(found[2])
            if content is not None:
                more = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self._sha(found[1])}
                return self._send(200, content, "application/octet-stream", more)
            return self._json({"error": "no entry"}, 404, {"X-Error-Code": "EntryNotFound"})
        return self._json({"error": "no repository"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _sha(self, name: str) -> str:
        told = [(path, hashlib.sha256(content).hexdigest()) for path, content in sorted(self.held[name].items())]
        return hashlib.sha1(json.dumps(told).encode()).hexdigest()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value: Any, status: int = 200, more: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", more or {})

    def _send(self, status: int, content: bytes, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

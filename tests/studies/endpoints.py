"""An OpenAI-compatible endpoint on this machine, and a judge that asks it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from studies.judges.endpoint import Endpoint

Reaction = Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]  # to a request's body: status, headers, body
SOON = {"Retry-After-Ms": "1"}  # with a failure that the client is to ask again after


def chat(text: Any) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def serving(react: Reaction, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """An endpoint on this machine; the requests that it got."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(
                {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}, **body}
            )
            status, headers, text = react(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(body: dict[str, Any]) -> str:
    return next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def endpoint(**options: Any) -> Endpoint:
    return Endpoint("judge-1", **options)

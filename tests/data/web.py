"""A web server of one's own that can be told to misbehave, request by request."""

import contextlib
import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Web:
    """Serves `contents`; `plan` holds, for the next requests in order, how each is treated.

    A treatment is a mapping: `status` (with `headers`), `cut` (bytes sent before it hangs up),
    `length` (a wrong Content-Length), `whole` (ranges are ignored), `chunked`, `etag` (another
    one), `shift` (a partial answer that begins elsewhere), `pace` (seconds between pieces).
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.plan: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802
                self.close_connection = True
                web.requests.append({"path": self.path, **dict(self.headers)})
                with_care(web.answer, self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def ranges(self) -> list[str | None]:
        """Return the Range of each request so far."""
        return [request.get("Range") for request in self.requests]

    def answer(self, handler: Any) -> None:
        treat = self.plan.pop(0) if self.plan else {}
        if "status" in treat:
            send(handler, treat["status"], {"Content-Length": "0", **treat.get("headers", {})})
            return
        content = self.contents[handler.path.strip("/")]
        etag = treat.get("etag", f'"{hashlib.md5(content).hexdigest()}"')
        headers = {"ETag": etag} if etag else {}
        start = self.start(handler, treat, etag, len(content))
        if start is None:
            send(handler, 416, {"Content-Length": "0"})
            return
        partial = handler.headers.get("Range") and start > 0
        body = content[start:]
        if partial:
            claimed = start + treat.get("shift", 0)
            headers["Content-Range"] = f"bytes {claimed}-{len(content) - 1}/{len(content)}"
        if treat.get("chunked"):
            headers["Transfer-Encoding"] = "chunked"
        elif treat.get("length") != "none":
            headers["Content-Length"] = str(treat.get("length", len(body)))
        send(handler, 206 if partial else 200, headers)
        self.body(handler, body, treat)

    def start(self, handler: Any, treat: dict[str, Any], etag: str, size: int) -> int | None:
        wanted, version = handler.headers.get("Range"), handler.headers.get("If-Range")
        stale = version is not None and version != etag and not treat.get("blind")
        if wanted is None or treat.get("whole") or stale:
            return 0
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        return start if start < size else None

    def body(self, handler: Any, body: bytes, treat: dict[str, Any]) -> None:
        sent = body[: treat.get("cut", len(body))]
        pace = treat.get("pace", 0.0)
        step = 1000 if pace else max(len(sent), 1)
        for at in range(0, len(sent), step):
            piece = sent[at : at + step]
            frame = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            handler.wfile.write(frame if treat.get("chunked") else piece)
            handler.wfile.flush()
            if pace:
                time.sleep(pace)
        if treat.get("chunked") and "cut" not in treat:
            handler.wfile.write(b"0\r\n\r\n")


def send(handler: Any, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def with_care(answer: Any, handler: Any) -> None:
    """Answer; a client that was killed is no error of the server's."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        answer(handler)

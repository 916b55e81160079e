"""A local HTTP server that does wrong on purpose: tests plan, path by path, how it answers the next requests."""

import http.server
import threading
from dataclasses import dataclass


@dataclass
class Request:
    """What was asked for, and how many bytes of content were sent in answer."""

    path: str
    span: str | None
    sent: int = 0


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` with ranges; ``plan`` holds, for a path, what to do in place of that with the next requests.

    A step is a function of (handler, content of the file, first byte that is asked for); after the last step the
    file is served as it should be. ``log`` holds a :class:`Request` for each request, in their order.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.log, self.release = {}, {}, [], threading.Event()

    def address(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release.set()  # lets the stalled ones go
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        span = self.headers.get("Range")
        self.request_log = Request(self.path, span)
        self.server.log.append(self.request_log)
        steps = self.server.plan.get(self.path, [])
        step = steps.pop(0) if steps else serve
        content = self.server.files.get(self.path)
        try:
            if content is None:
                self.send_error(404)
            else:
                step(self, content, int(span.removeprefix("bytes=").rstrip("-")) if span else 0)
        except OSError:
            pass  # the client has gone
        self.close_connection = True

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.send(body)

    def send(self, body):
        self.request_log.sent += len(body)
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


def ranged(content, first, last=None, total=None):
    """Return the headers of an honest partial answer."""
    last = len(content) - 1 if last is None else last
    return {
        "Content-Range": f"bytes {first}-{last}/{len(content) if total is None else total}",
        "Content-Length": last + 1 - first,
    }


def serve(handler, content, first):
    """Do as one should."""
    if first >= len(content) > 0 and first:
        handler.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
    elif first:
        handler.answer(206, ranged(content, first), content[first:])
    else:
        handler.answer(200, {"Content-Length": len(content)}, content)


def half(handler, content, first):
    """Break off after half of what is asked for."""
    rest = content[first:]
    headers = ranged(content, first) if first else {"Content-Length": len(content)}
    handler.answer(206 if first else 200, headers, rest[: len(rest) // 2])


def stall(handler, content, first):
    """Send half, then nothing, and keep the line."""
    half(handler, content, first)
    handler.server.release.wait(10)


def silent(handler, content, first):
    """Take the request and never answer."""
    handler.server.release.wait(10)


def hang_up(handler, content, first):
    """Close without an answer."""
    handler.close_connection = True


def garbage(handler, content, first):
    """Speak another protocol."""
    handler.wfile.write(b"220 ftp.example.org ready\r\n")


def says_longer(handler, content, first):
    handler.answer(200, {"Content-Length": len(content) + 1000}, content)


def says_shorter(handler, content, first):
    handler.answer(200, {"Content-Length": len(content) // 2}, content)


def says_nonsense(handler, content, first):
    handler.answer(200, {"Content-Length": "\u00b2\u00b3"}, content)


def says_huge(handler, content, first):
    handler.answer(200, {"Content-Length": 10**15}, content)


def no_length(handler, content, first):
    handler.answer(200, {}, content)


def endless(handler, content, first):
    handler.answer(200, {}, content)
    for _ in range(60):
        handler.send(bytes(100_000))


def wrong_bytes(handler, content, first):
    wrong = bytes(byte ^ 1 for byte in content)
    handler.answer(200, {"Content-Length": len(wrong)}, wrong)


def web_page(handler, content, first):
    page = b"<!doctype html><title>Sign in</title><p>Please sign in to download." * 20
    handler.answer(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(page)}, page)


def packed(handler, content, first):
    """Say that the bytes are compressed, which they are not."""
    handler.answer(200, {"Content-Length": len(content), "Content-Encoding": "gzip"}, content)


def circle(handler, content, first):
    handler.server.plan[handler.path].append(circle)
    handler.answer(302, {"Location": handler.path, "Content-Length": 0})


def nowhere(handler, content, first):
    """Redirect without an address."""
    handler.answer(302, {"Content-Length": 5}, b"moved")


def to(address):
    def redirect(handler, content, first):
        handler.answer(302, {"Location": address, "Content-Length": 0})

    return redirect


def status(code, reason=None):
    def refuse(handler, content, first):
        handler.send_response(code, reason)
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"sorry")

    return refuse


# Answers to a request for the rest


def no_range(handler, content, first):
    handler.answer(200, {"Content-Length": len(content)}, content)


def earlier_range(handler, content, first):
    """Send another part than asked for, and say so."""
    handler.answer(206, ranged(content, first // 2), content[first // 2 :])


def nameless_range(handler, content, first):
    handler.answer(206, {"Content-Length": len(content) - first}, content[first:])


def lying_range(handler, content, first):
    """Say that it is the part that was asked for, and send another."""
    handler.answer(206, ranged(content, first), content[: len(content) - first])


def short_range(handler, content, first):
    """Send less than the whole rest, rightfully."""
    last = (first + len(content)) // 2
    handler.answer(206, ranged(content, first, last), content[first : last + 1])


def nothing_more(handler, content, first):
    """Say that there is nothing after the kept part."""
    handler.answer(416, {"Content-Range": f"bytes */{first}", "Content-Length": 0})

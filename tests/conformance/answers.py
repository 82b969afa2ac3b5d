"""A backend whose answers are what REDbot has notes on, by the path of the request."""

import gzip
import re
import socketserver
import sys

TEXT = b"hello, world\n" * 100
TYPE = b"Content-Type: text/plain; charset=utf-8\r\n"
CACHED = b'Cache-Control: max-age=600\r\nETag: "a"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n'
DATE = b"Date: Thu, 02 Jan 2025 00:00:00 GMT\r\n"


def whole(status, *fields, body=TEXT):
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, b"".join(fields), len(body), body)


def chunked(*fields, body=TEXT):
    parts = [body[i : i + 100] for i in range(0, len(body), 100)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    head = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n" % b"".join(fields)
    return head + chunks + b"0\r\n\r\n"


def validated(asked):
    if b'"a"' in asked.get(b"if-none-match", b"") or b"if-modified-since" in asked:
        return b"HTTP/1.1 304 Not Modified\r\n%b\r\n" % (DATE + CACHED)
    return whole(b"200 OK", DATE, TYPE, CACHED)


def ranged(asked):
    found = re.fullmatch(rb"bytes=(\d+)-(\d+)", asked.get(b"range", b""))
    accepts = b"Accept-Ranges: bytes\r\n"
    if not found:
        return whole(b"200 OK", DATE, TYPE, CACHED, accepts)
    first, last = map(int, found.groups())
    part = b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, len(TEXT))
    return whole(b"206 Partial Content", DATE, TYPE, CACHED, accepts, part, body=TEXT[first : last + 1])


def negotiated(asked):
    vary = b"Vary: Accept-Encoding\r\n"
    if b"gzip" not in asked.get(b"accept-encoding", b""):
        return chunked(DATE, TYPE, vary)
    return chunked(DATE, TYPE, vary, b"Content-Encoding: gzip\r\n", body=gzip.compress(TEXT, mtime=0))


def fixed(answer):
    return lambda _: answer


ANSWERS = {
    "plain": fixed(whole(b"200 OK", DATE, TYPE)),
    "dateless": fixed(whole(b"200 OK", TYPE)),
    "typeless": fixed(whole(b"200 OK", DATE)),
    "empty": fixed(whole(b"200 OK", DATE, TYPE, body=b"")),
    "chunked": fixed(chunked(DATE, TYPE)),
    "until-close": fixed(b"HTTP/1.1 200 OK\r\n" + DATE + TYPE + b"Connection: close\r\n\r\n" + TEXT),
    "http-1.0": fixed(b"HTTP/1.0 200 OK\r\n" + DATE + TYPE + b"\r\n" + TEXT),
    "cacheable": validated,
    "shared": fixed(whole(b"200 OK", DATE, TYPE, b"Cache-Control: public, s-maxage=60\r\nAge: 5\r\n")),
    "private": fixed(whole(b"200 OK", DATE, TYPE, b"Cache-Control: private, max-age=60\r\n")),
    "no-store": fixed(whole(b"200 OK", DATE, TYPE, b"Cache-Control: no-store\r\n")),
    "expires": fixed(whole(b"200 OK", DATE, TYPE, b"Expires: Thu, 02 Jan 2025 01:00:00 GMT\r\n")),
    "ranges": ranged,
    "gzip": negotiated,
    "vary": fixed(whole(b"200 OK", DATE, TYPE, b"Vary: Accept, Accept-Language\r\n")),
    "cookies": fixed(
        whole(b"200 OK", DATE, TYPE, b"Set-Cookie: a=1; Path=/; HttpOnly\r\nSet-Cookie: b=2; Max-Age=60\r\n")
    ),
    "created": fixed(whole(b"201 Created", DATE, TYPE, b"Location: /plain\r\n")),
    "no-content": fixed(b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n"),
    "moved": fixed(whole(b"301 Moved Permanently", DATE, TYPE, b"Location: /plain\r\n")),
    "found": fixed(whole(b"302 Found", DATE, TYPE, b"Location: /plain\r\n")),
    "permanent": fixed(whole(b"308 Permanent Redirect", DATE, TYPE, b"Location: /plain\r\n")),
    "unauthorized": fixed(whole(b"401 Unauthorized", DATE, TYPE, b'WWW-Authenticate: Basic realm="a"\r\n')),
    "not-found": fixed(whole(b"404 Not Found", DATE, TYPE)),
    "not-allowed": fixed(whole(b"405 Method Not Allowed", DATE, TYPE, b"Allow: POST\r\n")),
    "gone": fixed(whole(b"410 Gone", DATE, TYPE)),
    "failed": fixed(whole(b"500 Internal Server Error", DATE, TYPE)),
    "unavailable": fixed(whole(b"503 Service Unavailable", DATE, TYPE, b"Retry-After: 5\r\n")),
    "hinted": fixed(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" + whole(b"200 OK", DATE, TYPE)
    ),
    "secured": fixed(
        whole(
            b"200 OK",
            DATE,
            b"Content-Type: text/html; charset=utf-8\r\n",
            b"Content-Security-Policy: default-src 'self'\r\nX-Content-Type-Options: nosniff\r\n",
            body=b"<!doctype html><title>a</title>",
        )
    ),
    "shared-origin": fixed(whole(b"200 OK", DATE, TYPE, b"Access-Control-Allow-Origin: *\r\n")),
}


HEADS = re.compile(rb"(HTTP/1.1 1.*?\r\n\r\n)?.*?\r\n\r\n", re.DOTALL)
"""An answer without its body."""


class Answering(socketserver.StreamRequestHandler):
    def handle(self):
        while request := self.rfile.readline().split():
            asked = {}
            while field := self.rfile.readline().strip():
                name, _, value = field.partition(b":")
                asked[name.lower()] = value.strip()
            answer = ANSWERS[request[1].decode().strip("/")](asked)
            if request[0] == b"HEAD":
                answer = HEADS.match(answer)[0]
            self.wfile.write(answer)
            self.wfile.flush()
            if b"Connection: close" in answer or answer.startswith(b"HTTP/1.0"):
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Answering) as server:
        print(server.server_address[1])
        sys.stdout.flush()
        server.serve_forever()

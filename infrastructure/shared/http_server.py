"""A small HTTP server: routes are functions from a request's body to an answer."""

import http.server
import json
import socketserver
import sys

from shared.service import leave, log, one_line

LONGEST_BODY_BYTES = 65536


class BadRequest(Exception):
    """What the client sent can't be used; the message tells it why."""


def json_answer(value, status=200):
    return (
        status,
        {"Content-Type": "application/json"},
        (json.dumps(value, ensure_ascii=False) + "\n").encode(),
    )


def page(html, status=200):
    return status, {"Content-Type": "text/html; charset=utf-8"}, html.encode()


def see_other(location):
    return 303, {"Location": location}, b""


def health(_body):
    return json_answer({"status": "ok"})


def serve(port, routes, greeting, stop):
    """Answers on `port` of this machine until asked to stop. `routes` maps (method, path) to a function."""
    try:
        server = _Server(("127.0.0.1", port), _handler_for(routes))
    except OSError as error:
        sys.exit(f"Cannot listen on port {port}: {error.strerror}.")
    log.info("%s on port %d", greeting, port)
    while not stop.wait([server]):
        server.handle_request()
    server.server_close()
    leave()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
    timeout = 0  # a client that is gone again by now must not make us wait for the next

    def server_bind(self):
        # HTTPServer's own also asks for the name of this machine, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        log.warning("A client went away: %s", sys.exc_info()[1])


def _handler_for(routes):
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client that connects and then says nothing

        def do_GET(self):
            path = self.path.partition("?")[0]
            status, headers, content = self._answer(path)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            if path != "/health":  # asked every few seconds, and of no interest while it goes well
                log.info("%s %s %d", self.command, one_line(path), status)

        do_POST = do_GET

        def _answer(self, path):
            route = routes.get((self.command, path))
            if route is None:
                known = any(path == other for _, other in routes)
                return json_answer(
                    {"error": "method not allowed" if known else "not found"}, 405 if known else 404
                )
            length = self.headers.get("Content-Length", "0")
            if not (length.isascii() and length.isdigit() and len(length) < 9):
                return json_answer({"error": "Content-Length is not a number"}, 400)
            if int(length) > LONGEST_BODY_BYTES:
                return json_answer({"error": f"a body has at most {LONGEST_BODY_BYTES} bytes"}, 413)
            try:
                return route(self.rfile.read(int(length)))
            except BadRequest as error:
                return json_answer({"error": str(error)}, 400)
            except Exception:
                log.exception("A mistake in the answer to %s %s", self.command, one_line(path))
                return json_answer({"error": "internal error"}, 500)

        def log_message(self, format, *args):
            log.warning("%s", one_line(format % args))

    return Handler

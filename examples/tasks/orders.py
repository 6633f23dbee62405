"""Counts orders over HTTP: GET / tells how many there are, POST / places one, GET /health answers when all is well."""

import os
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

database = sqlite3.connect(os.path.join(os.environ.get("DATA_DIR", "."), "orders.sqlite"))


class Orders(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    def do_POST(self):
        with database:
            database.execute("INSERT INTO orders DEFAULT VALUES")
        self.answer()

    def answer(self):
        (count,) = database.execute("SELECT COUNT(*) FROM orders").fetchone()
        body = f"{count} orders\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path != "/health":
            super().log_request(code, size)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = HTTPServer(("127.0.0.1", int(os.environ.get("ORDER_SERVICE_PORT", "8020"))), Orders)
print(f"taking orders on port {server.server_port}")
server.serve_forever()

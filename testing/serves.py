"""Answers HTTP on a port: serves.py PORT [SECONDS_BEFORE] [FILE]

A FILE, where there is one, says how it is: "sick" answers 500, "moody" every other time, "slow" after five seconds.
"""
import http.server
import os
import sys
import time

port, *rest = sys.argv[1:]
wait = float(rest[0]) if rest else 0
file = rest[1] if len(rest) > 1 else None
asked = [0]
total = [0]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked[0] += 1
        total[0] += 1
        print("asked", asked[0], self.path, flush=True)
        mood = open(file).read().strip() if file and os.path.exists(file) else "well"
        if mood == "slow":
            time.sleep(5)
        if mood == "moody":
            mood = "sick" if total[0] % 2 else "well"
        try:
            self.send_response(500 if mood == "sick" else 200)
            self.end_headers()
            self.wfile.write(f"I am {mood}\n".encode())
        except ConnectionError:
            pass
        asked[0] -= 1

    def log_message(self, *args):
        pass


time.sleep(wait)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
print(f"listening on {port}", flush=True)
server.serve_forever()

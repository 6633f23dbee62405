"""Places an order every second until its purse is empty, and fails then: see it being restarted."""

import os
import signal
import sys
import time
import urllib.request

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
orders = f"http://127.0.0.1:{os.environ.get('ORDER_SERVICE_PORT', '8020')}/"
for _ in range(int(os.environ["PURSE"])):
    with urllib.request.urlopen(urllib.request.Request(orders, method="POST")) as answer:
        print("ordered:", answer.read().decode().strip())
    time.sleep(1)
sys.exit("This customer's purse is empty.")

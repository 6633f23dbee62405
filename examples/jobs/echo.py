"""The echo task in another language: params as JSON on stdin, the result as JSON on stdout, talk on stderr.

orchestrator worker --exec echo_task='python3 echo.py'
"""

import json
import os
import sys
import time

params = json.load(sys.stdin)
message = params.get("message", "default")
multiply = params.get("multiply", 1)

print("[WORKER] Received task", os.environ["TASK_ID"], file=sys.stderr)
print("[WORKER] Job ID:", os.environ["JOB_ID"], file=sys.stderr)
print("[WORKER] Params:", params, file=sys.stderr)
print("[WORKER] Processing...", file=sys.stderr, flush=True)
time.sleep(1)

repeated = " ".join([message] * multiply)
print("[WORKER] Done! Result:", repeated, file=sys.stderr)
json.dump({"processed_message": repeated, "original_message": message, "multiplied_by": multiply}, sys.stdout)

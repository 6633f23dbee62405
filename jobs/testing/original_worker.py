"""The scenario's worker, written for the original Python package (PyPI: avtomatika-worker 1.0b1 speaks this protocol)."""

import asyncio

from avtomatika_worker import Worker

worker = Worker(worker_type="test-worker", max_concurrent_tasks=5)


@worker.task("echo_task")
async def echo_task(params, task_id, job_id, **_):
    print("[WORKER] Received task", task_id, flush=True)
    await asyncio.sleep(1)
    message, multiply = params.get("message", "default"), params.get("multiply", 1)
    repeated = " ".join([message] * multiply)
    return {
        "status": "success",
        "data": {"processed_message": repeated, "original_message": message, "multiplied_by": multiply},
    }


@worker.task("failing_task")
async def failing_task(params, **_):
    print("[WORKER] This task will fail!", flush=True)
    error = {"code": "TRANSIENT_ERROR", "message": "Intentional failure for testing"}
    return {"status": "failure", "error": error}


worker.run()

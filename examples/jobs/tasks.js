// The tasks of a worker: each exported function is one. A real one would do something that takes a second.

const line = "=".repeat(50);

/** Repeats a message. */
export async function echo_task(
  { message = "default", multiply = 1 },
  { taskId, jobId, signal, sendProgress },
) {
  console.log(`${line}\n[WORKER] Received task ${taskId}\n[WORKER] Job ID: ${jobId}`);
  console.log("[WORKER] Params:", { message, multiply });
  console.log("[WORKER] Processing...");
  await sendProgress(0.5, "half of the second is over");
  await second(signal);
  const repeated = Array(multiply).fill(message).join(" ");
  console.log(`[WORKER] Done! Result: ${repeated}\n${line}`);
  return {
    status: "success",
    data: { processed_message: repeated, original_message: message, multiplied_by: multiply },
  };
}

/** Fails in the way that is worth another try; the engine gives it three more. */
export function failing_task() {
  console.log("[WORKER] This task will fail!");
  return {
    status: "failure",
    error: { code: "TRANSIENT_ERROR", message: "Intentional failure for testing" },
  };
}

// Passes, unless the task is cancelled first.
function second(signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

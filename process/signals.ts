/**
 * Signals that this process handles for as long as it needs to.
 *
 * @module
 */

/**
 * Handles signals until it is disposed.
 *
 * @param handlers by signal; on Windows, which knows no others, only SIGINT is listened to
 */
export function handleSignals(handlers: Partial<Record<Deno.Signal, () => void>>): Disposable {
  const known = (Object.entries(handlers) as [Deno.Signal, () => void][])
    .filter(([signal]) => Deno.build.os !== "windows" || signal === "SIGINT");
  for (const [signal, handler] of known) Deno.addSignalListener(signal, handler);
  return {
    [Symbol.dispose]() {
      for (const [signal, handler] of known) Deno.removeSignalListener(signal, handler);
    },
  };
}

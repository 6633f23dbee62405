/**
 * A WebSocket to an engine, for commands and progress, when that is switched on.
 *
 * @module
 */
import { parseJson } from "../model/json.ts";
import type { EngineHttp } from "./engine_http.ts";
import { jittered } from "./waiting.ts";

/** Keeps one socket open, and opens another one after it has closed. */
export class CommandSocket {
  #socket: WebSocket | undefined;

  constructor(readonly engine: EngineHttp, readonly onMessage: (value: unknown) => void) {}

  get isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Sends a text if it is open. @returns whether it is */
  send(text: string): boolean {
    if (this.isOpen) this.#socket?.send(text);
    return this.isOpen;
  }

  /** Works until the run has ended, while `isUp`. */
  async keepOpen(isUp: () => boolean): Promise<void> {
    const { run, url } = this.engine;
    const { settings, clock, ended: { signal } } = run;
    while (settings.WORKER_ENABLE_WEBSOCKETS) {
      await run.until(isUp, Infinity, signal);
      if (isUp() && !signal.aborted) await this.#hold(signal);
      if (signal.aborted) return;
      run.log("info", "socket_closed", { engine: url });
      await clock.sleep(jittered(settings.TASK_POLL_ERROR_DELAY), signal);
    }
  }

  // Resolves when the socket has closed.
  #hold(signal: AbortSignal): Promise<void> {
    const { url, token, run } = this.engine;
    const address = `${url.replace(/^http/i, "ws")}/_worker/ws/${encodeURIComponent(run.settings.id)}`;
    const socket = new WebSocket(address, { headers: { "X-Worker-Token": token } });
    this.#socket = socket;
    const close = () => socket.close();
    signal.addEventListener("abort", close);
    socket.onmessage = ({ data }) => this.onMessage(typeof data === "string" ? parseJson(data) : undefined);
    socket.onerror = (event) => event.preventDefault(); // `onclose` follows
    return new Promise((resolve) => {
      socket.onclose = () => {
        signal.removeEventListener("abort", close);
        resolve();
      };
    });
  }
}

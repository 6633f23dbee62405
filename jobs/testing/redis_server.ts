/** A Redis server of a test's own, on a port that was free, in a folder that goes with it. */

import { NOTHING_IGNORED } from "../../testing/run.ts";

let missing: string | undefined;
try {
  await new Deno.Command("redis-server", { args: ["--version"], stdout: "null", stderr: "null" }).output();
} catch (error) {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
  missing = "redis-server is not installed";
}

/** Why tests with Redis cannot run here; never where nothing may be ignored. */
export const redisMissing: string | undefined = NOTHING_IGNORED ? undefined : missing;

/** A running server. */
export class RedisServer implements AsyncDisposable {
  #child: Deno.ChildProcess | undefined;

  private constructor(readonly folder: string, readonly port: number, readonly options: string[]) {}

  /** Starts one; `options` are added to its command line. */
  static async start(options: string[] = []): Promise<RedisServer> {
    const folder = await Deno.makeTempDir({ prefix: "redis-" });
    for (let tries = 1;; tries++) {
      const server = new RedisServer(folder, freePort(), options);
      try {
        await server.up();
        return server;
      } catch (error) {
        if (tries < 5 && !(error instanceof Deno.errors.NotFound)) continue; // somebody else took the port
        await Deno.remove(folder, { recursive: true });
        throw error;
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it again on the same port and files; resolves when it answers. */
  async up(): Promise<void> {
    const child = new Deno.Command("redis-server", {
      args: [
        ...["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.folder, "--save", ""],
        ...["--appendonly", "yes", ...this.options],
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    let ended = false;
    child.status.then(() => ended = true);
    while (!await this.#isServedBy(child.pid)) {
      if (ended) throw new Error(`redis-server ended as soon as it was started on port ${this.port}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  // Another process may have taken the port, so the answer must name ours. One that still loads does not count.
  async #isServedBy(pid: number): Promise<boolean> {
    try {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
      await connection.write(new TextEncoder().encode("INFO\r\n"));
      const answer = new Uint8Array(1 << 14);
      const size = await connection.read(answer);
      const text = new TextDecoder().decode(answer.subarray(0, size ?? 0));
      return text.includes(`process_id:${pid}\r`) && text.includes("loading:0\r");
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionRefused) return false; // it does not listen yet
      throw error;
    }
  }

  /** Ends it: SIGTERM in order, SIGKILL at once. */
  async down(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    this.#child?.kill(signal);
    await this.#child?.status;
    this.#child = undefined;
  }

  /** What the server says to a command, as its own client prints it. */
  async command(...words: string[]): Promise<string> {
    const args = ["-p", String(this.port), ...words];
    const { stdout } = await new Deno.Command("redis-cli", { args, stderr: "null" }).output();
    return new TextDecoder().decode(stdout);
  }

  /** Stops its process where it stands, and lets it go on. */
  pause(on: boolean): void {
    this.#child?.kill(on ? "SIGSTOP" : "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down("SIGKILL");
    await Deno.remove(this.folder, { recursive: true });
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

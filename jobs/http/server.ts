/**
 * The engine as others use it: the job engine behind a port that answers HTTP.
 *
 * @module
 */
import { JobEngine } from "../engine/engine.ts";
import type { MadeTokens } from "../engine/tokens.ts";
import { messageOf } from "../model/errors.ts";
import { handler } from "./router.ts";

interface Server {
  url: string;
  /** Lets requests that are being answered end, and closes. */
  close(): Promise<void>;
}

/**
 * A job engine with its HTTP interface.
 *
 * @example
 * ```ts
 * import { Config, MemoryStorage, OrchestratorEngine, StateMachineBlueprint } from "../mod.ts";
 *
 * const flow = new StateMachineBlueprint({ name: "nothing", apiEndpoint: "/jobs/nothing", apiVersion: "v1" });
 * flow.handlerFor("start", { isStart: true }, ({ actions }) => actions.transitionTo("done"));
 * flow.handlerFor("done", { isEnd: true });
 *
 * const engine = new OrchestratorEngine(new MemoryStorage(), new Config({ clientToken: "c", workerToken: "w", port: 0 }));
 * engine.registerBlueprint(flow);
 * const { url } = await engine.start();
 * await fetch(`${url}/api/v1/jobs/nothing`, { method: "POST", headers: { "x-client-token": "c" }, body: "{}" })
 *   .then((response) => response.body?.cancel());
 * await engine.stop();
 * ```
 */
export class OrchestratorEngine extends JobEngine {
  #server: Server | undefined;
  #answer: ((request: Request) => Promise<Response>) | undefined;

  /**
   * Opens the engine and its port; resolves when it listens.
   *
   * @throws ConfigError for settings and files that cannot be used; Deno.errors.AddrInUse for a taken port.
   */
  async start(): Promise<{ url: string; madeTokens: MadeTokens }> {
    const madeTokens = await this.open();
    this.#server = serve(this, handler(this));
    return { url: this.#server.url, madeTokens };
  }

  /** Answers one HTTP request without a port; for programs with a server of their own, and tests. After `open`. */
  handle(request: Request): Promise<Response> {
    this.#answer ??= handler(this);
    return this.#answer(request);
  }

  protected override closeServer(): Promise<void> {
    return this.#server?.close() ?? Promise.resolve();
  }
}

// @throws Deno.errors.AddrInUse and others of its kind.
function serve(engine: JobEngine, answer: (request: Request) => Promise<Response>): Server {
  const server = Deno.serve({
    hostname: engine.core.config.host,
    port: engine.core.config.port,
    onListen: () => {},
    onError: (error) => {
      engine.core.log("error", "request_failed", { error: messageOf(error) });
      return Response.json({ error: "Internal Server Error" }, { status: 500 });
    },
  }, answer);
  const { port } = server.addr;
  const host = engine.core.config.host === "0.0.0.0" || engine.core.config.host === "::"
    ? "localhost"
    : engine.core.config.host;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    close: () => server.shutdown(),
  };
}

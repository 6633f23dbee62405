/**
 * The engine as others use it: the job engine behind a port that answers HTTP.
 *
 * @module
 */
import { JobEngine } from "../engine/engine.ts";
import type { MadeTokens } from "../engine/tokens.ts";
import { messageOf } from "../model/errors.ts";
import { handler } from "./router.ts";

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
  #server: Deno.HttpServer<Deno.NetAddr> | undefined;
  #answer: ((request: Request) => Promise<Response>) | undefined;

  /**
   * Opens the engine and its port; resolves when it listens.
   *
   * @throws ConfigError for settings and files that cannot be used; Deno.errors.AddrInUse for a taken port.
   */
  async start(): Promise<{ url: string; madeTokens: MadeTokens }> {
    const madeTokens = await this.open();
    const { config, log } = this.core;
    this.#server = Deno.serve({
      hostname: config.host,
      port: config.port,
      onListen: () => {},
      onError: (error) => {
        log("error", "request_failed", { error: messageOf(error) });
        return Response.json({ error: "Internal Server Error" }, { status: 500 });
      },
    }, this.#answer ??= handler(this));
    const { port } = this.#server.addr;
    const host = config.host === "0.0.0.0" || config.host === "::" ? "localhost" : config.host;
    return { url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`, madeTokens };
  }

  /** Answers one HTTP request without a port; for programs with a server of their own, and tests. After `open`. */
  handle(request: Request): Promise<Response> {
    return (this.#answer ??= handler(this))(request);
  }

  /** Lets requests that are being answered end, and closes. */
  protected override closeServer(): Promise<void> {
    return this.#server?.shutdown() ?? Promise.resolve();
  }
}

/**
 * `orchestrator engine`.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { tableText } from "../../terminal/text.ts";
import type { Config } from "../engine/config.ts";
import { OrchestratorEngine } from "../http/server.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { openStorage } from "../stores/open.ts";
import { stopSignals } from "./environment.ts";
import { loadBlueprints } from "./scripts.ts";
import { runService, type Service } from "./service.ts";

/** Runs the engine until a signal stops it; a second one ends it at once. @returns 0, or 1 after a second signal */
export function run(given: Given): Promise<number> {
  return runService(given, (service) => runEngine(given.all("blueprints"), service));
}

async function runEngine(files: readonly string[], { config, log, out, err }: Service): Promise<number> {
  if (files.length === 0) {
    throw new UserError('"engine" needs --blueprints FILE; examples/jobs/flow.js is one.');
  }
  const blueprints = (await Promise.all(files.map(loadBlueprints))).flat();
  using signals = stopSignals();
  const storage = await openStorage(config.storage);
  await using engine = new OrchestratorEngine(storage, config, { log });
  for (const blueprint of blueprints) engine.registerBlueprint(blueprint);
  dropAbortWarning();
  const { url, madeTokens: { client, worker } } = await listen(engine, config);

  // Tokens are shown once, beside the log, so that no log holds them.
  if (client !== undefined) err.line(`CLIENT_TOKEN=${client}`);
  if (worker !== undefined) err.line(`GLOBAL_WORKER_TOKEN=${worker}   (a worker's WORKER_TOKEN)`);
  if (client !== undefined || worker !== undefined) {
    err.line("These tokens were made for this run, as none were configured; only this machine is served.");
  }
  if (config.logFormat === "text") out.line(await greeting(url, blueprints));
  log("info", "engine_running", { url, blueprints: blueprints.map(({ name }) => name) });
  await aborted(signals.stop);
  log("info", "engine_stopping");
  const stopped = engine.stop().then(() => 0);
  return await Promise.race([stopped, aborted(signals.force).then(() => 1)]);
}

/** What people see of an engine when it runs. */
async function greeting(url: string, blueprints: readonly StateMachineBlueprint[]): Promise<string> {
  const submissions = blueprints.flatMap(({ name, apiEndpoint: endpoint, apiVersion: version }) =>
    endpoint === undefined
      ? []
      : [[`  POST /api${version === undefined ? "" : `/${version}`}${endpoint}`, `submit a ${name} job`]]
  );
  const endpoints = await tableText([
    ...submissions,
    ["  GET  /api/jobs/{id}", "a job"],
    ["  GET  /", "the page"],
    ["  GET  /_public/docs", "all there is"],
  ]);
  const hint = "A request carries a client's token in the header X-Avtomatika-Token.";
  return `Engine running on ${url}\n\n${endpoints}\n\n${hint}\n`;
}

/** Resolves when a signal fires. */
async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }
}

/**
 * Keeps the log free of a warning of the runtime's. Only `request.signal` shows that a poll's connection is lost; without
 * the flag `no-legacy-abort` of `deno.json`, in a bundle, it is aborted after each answer, too, when nothing listens any
 * more. Who has read it is warned of that, once.
 */
function dropAbortWarning(): void {
  const { warn } = console;
  console.warn = (...words: unknown[]) => {
    if (String(words[0]).includes("no-legacy-abort")) console.warn = warn;
    else warn(...words);
  };
}

const LISTEN_ERRORS = [
  [Deno.errors.AddrInUse, "the port is taken; stop what listens there or give another --port"],
  [Deno.errors.AddrNotAvailable, "this machine has no such address; give another --host"],
  [Deno.errors.PermissionDenied, "it is not permitted; ports below 1024 need a right to them"],
] as const;

async function listen(engine: OrchestratorEngine, { host, port }: Config) {
  try {
    return await engine.start();
  } catch (error) {
    const [, why] = LISTEN_ERRORS.find(([kind]) => error instanceof kind) ?? [];
    throw why === undefined ? error : new UserError(`Cannot listen on ${host}:${port}: ${why}.`);
  }
}

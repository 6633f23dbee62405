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
import { ConfigError } from "../model/errors.ts";
import { openStorage } from "../stores/open.ts";
import { configOf } from "./config.ts";
import { lineLog } from "./line_log.ts";
import { loadBlueprints } from "./scripts.ts";
import type { Streams, Variables } from "./streams.ts";
import { aborted, readVariables, stopSignals, withStreams } from "./streams.ts";

/** Runs the engine until a signal stops it; a second one ends it at once. @returns 0, or 1 after a second signal */
export function run(given: Given): Promise<number> {
  return withStreams((streams) => runEngine(given, streams));
}

async function runEngine(given: Given, streams: Streams): Promise<number> {
  const variables = readVariables(given);
  const config = configOf(variables);
  const files = given.all("blueprints");
  if (files.length === 0) {
    throw new UserError('"engine" needs --blueprints FILE; examples/jobs/flow.js is one.');
  }
  const blueprints = (await Promise.all(files.map(loadBlueprints))).flat();
  using signals = stopSignals();
  const storage = await openStorage(config.storage);
  const log = lineLog(config.logFormat, config.logLevel, streams.out);
  await using engine = new OrchestratorEngine(storage, config, { log });
  for (const blueprint of blueprints) engine.registerBlueprint(blueprint);
  dropAbortWarning();
  const { url, madeTokens } = await listen(engine, config, variables);

  // Tokens are shown once, beside the log, so that no log holds them.
  if (madeTokens.client !== undefined) streams.err.line(`CLIENT_TOKEN=${madeTokens.client}`);
  if (madeTokens.worker !== undefined) {
    streams.err.line(`GLOBAL_WORKER_TOKEN=${madeTokens.worker}   (a worker's WORKER_TOKEN)`);
  }
  if (madeTokens.client !== undefined || madeTokens.worker !== undefined) {
    streams.err.line(
      "These tokens were made for this run, as none were configured; only this machine is served.",
    );
  }
  if (config.logFormat === "text") {
    streams.out.line(`Engine running on ${url}\n`);
    const endpoints = blueprints.flatMap(({ name, apiEndpoint, apiVersion }) =>
      apiEndpoint === undefined ? [] : [
        [
          `  POST /api${apiVersion === undefined ? "" : `/${apiVersion}`}${apiEndpoint}`,
          `submit a ${name} job`,
        ] as const,
      ]
    );
    streams.out.line(
      await tableText([
        ...endpoints,
        ["  GET  /api/jobs/{id}", "a job"],
        ["  GET  /", "the page"],
        ["  GET  /_public/docs", "all there is"],
      ]),
    );
    streams.out.line("\nA request carries a client's token in the header X-Avtomatika-Token.\n");
  }
  log("info", "engine_running", { url, blueprints: blueprints.map(({ name }) => name) });
  await aborted(signals.stop);
  log("info", "engine_stopping");
  const stopped = engine.stop().then(() => 0);
  return await Promise.race([stopped, aborted(signals.force).then(() => 1)]);
}

/**
 * Keeps the log free of a warning of the runtime's. That a poll's connection is lost only `request.signal` tells; without
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

async function listen(
  engine: { start(): Promise<{ url: string; madeTokens: { client?: string; worker?: string } }> },
  { host, port }: Config,
  { inWordsOfOptions }: Variables,
): Promise<{ url: string; madeTokens: { client?: string; worker?: string } }> {
  try {
    return await engine.start();
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UserError(
        `Cannot listen on ${host}:${port}: the port is taken; stop what listens there or give another --port.`,
      );
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      throw new UserError(
        `Cannot listen on ${host}:${port}: this machine has no such address; give another --host.`,
      );
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new UserError(
        `Cannot listen on ${host}:${port}: it is not permitted; ports below 1024 need a right to them.`,
      );
    }
    if (error instanceof ConfigError) throw inWordsOfOptions(error);
    throw error;
  }
}

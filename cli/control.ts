/**
 * The commands that talk to an orchestrator that runs.
 *
 * @module
 */

import type { Flags, FlagSpec } from "./arguments.ts";
import { HOME_FLAGS, homeOptions, readFlags } from "./arguments.ts";
import { parseDuration } from "../config/duration.ts";
import { UserError } from "../config/errors.ts";
import { findHome } from "../config/settings.ts";
import { namesOf, readChanges, readStatus, statusTable } from "../control/answers.ts";
import { ask, lines, request } from "../control/client.ts";
import { findRun, pause, reach } from "../control/find.ts";
import { conclude, Mirror, waitFor } from "../control/mirror.ts";
import type { RunRecord } from "../control/record.ts";
import { isSame } from "../process/procfs.ts";
import { print } from "../terminal/outlet.ts";

/** No orchestrator runs here: the exit status of a command that needs one. */
const NONE_RUNS = 3;

function spec(
  boolean: readonly string[],
  text: Record<string, string> = {},
  letters: Record<string, string> = {},
): FlagSpec {
  return {
    boolean: [...boolean, "help"],
    text: { ...HOME_FLAGS, ...text },
    letters: { ...letters, h: "help" },
  };
}

/** The options of each of these commands. */
export const SPECS: Record<string, FlagSpec> = {
  status: spec(["json"]),
  logs: spec(["follow", "json"], { lines: "100", since: "10m", grep: "error", "log-dir": "logs" }, {
    f: "follow",
    n: "lines",
  }),
  restart: spec(["with-dependents", "with-dependencies"], { wait: "60s" }),
  stop: spec([], { wait: "60s" }),
  reload: spec(["dry-run", "json"]),
  "self-restart": spec([]),
  attach: spec([]),
  events: spec([]),
  completions: spec([]),
};

/** Performs such a command. @returns the exit status @throws {UserError} for what the user can mend */
export async function control(word: string, args: readonly string[]): Promise<number> {
  const flags = readFlags(args, SPECS[word]);
  const { words, on } = flags;
  const names = words.flatMap((text) => text.split(",")).filter(Boolean);
  if (on.has("help")) {
    const { helpText, knownServices } = await import("./help.ts");
    print(helpText(await knownServices(homeOptions(flags))));
    return 0;
  }
  if (word === "completions") {
    const { complete } = await import("./completions.ts");
    return await complete(words, homeOptions(flags));
  }
  const home = findHome(homeOptions(flags));
  const takesNames = word === "logs" || word === "restart" || word === "stop";
  if (!takesNames && names.length > 0) {
    throw new UserError(`${word} takes no names; leave "${names[0]}" out.`);
  }
  if (word === "restart" && names.length === 0) {
    throw new UserError("restart needs the names of services; for example: orchestrator restart db");
  }
  const record = await findRun(home);
  if (word === "logs") {
    const { showLogs } = await import("./logs.ts");
    return await showLogs(home, record, names, flags);
  }
  if (record === null) {
    if (on.has("json")) {
      print(JSON.stringify({ running: false, infrastructure: home.infrastructure }, null, 2));
    } else {print(
        `No orchestrator runs in ${home.infrastructure}.`,
        word === "status" ? Deno.stdout : Deno.stderr,
      );}
    return word === "stop" ? 0 : NONE_RUNS;
  }
  return await reach(record, (socket) => talk(word, { record, socket, names, flags }));
}

interface Talk {
  record: RunRecord;
  socket: string;
  names: readonly string[];
  flags: Flags;
}

async function talk(word: string, { record, socket, names, flags }: Talk): Promise<number> {
  const { on, text } = flags;
  const limitMs = text.wait === undefined ? Infinity : parseDuration(text.wait);
  switch (word) {
    case "status": {
      const status = await ask(socket, "GET", "/status");
      print(on.has("json") ? JSON.stringify(status, null, 2) : await statusTable(status));
      return readStatus(status).healthy ? 0 : 1;
    }
    case "restart": {
      using mirror = await Mirror.open(socket, 1_000);
      const more = {
        dependents: on.has("with-dependents"),
        dependencies: on.has("with-dependencies"),
      };
      const chosen = namesOf(await ask(socket, "POST", "/restart", { names, ...more }));
      return await conclude(
        mirror,
        await waitFor(mirror, { names: chosen, goal: "restarted", asked: names, limitMs }),
      );
    }
    case "stop": {
      using mirror = await Mirror.open(socket, 0);
      if (names.length === 0) {
        await ask(socket, "POST", "/stop", {});
        return await waitForEnd(mirror, record, limitMs);
      }
      const chosen = namesOf(await ask(socket, "POST", "/stop", { names }));
      const outcome = await waitFor(mirror, { names: chosen, goal: "stopped", limitMs });
      // Nobody is left to keep running for: the end of the run is a stop, too.
      return outcome.kind === "exit" ? outcome.status ?? 1 : await conclude(mirror, outcome);
    }
    case "reload": {
      const answer = await ask(socket, "POST", "/reload", { dryRun: on.has("dry-run") });
      const changes = readChanges(answer);
      const { describePlan } = await import("../control/reload.ts");
      print(on.has("json") ? JSON.stringify(changes, null, 2) : describePlan({ changes }).join("\n"));
      return 0;
    }
    case "self-restart": {
      using mirror = await Mirror.open(socket, 0);
      await ask(socket, "POST", "/self-restart", {});
      const outcome = await waitFor(mirror, { names: null, goal: "exited" });
      const again = outcome.kind === "exit" && outcome.restarting;
      print(
        again
          ? `The orchestrator with PID ${record.orchestrator.pid} begins anew.`
          : "orchestrator: It did not begin anew.",
        again ? Deno.stdout : Deno.stderr,
      );
      return again ? 0 : 1;
    }
    case "attach": {
      const { attach } = await import("./attach.ts");
      return await attach(record);
    }
    case "events": {
      const { body } = await request(socket, "GET", "/events");
      for await (const line of lines(body)) print(line);
      return 0;
    }
    default:
      throw new Error(`${word} is no command of the control socket`);
  }
}

/** Follows a run to its end, the last of its process included. */
async function waitForEnd(mirror: Mirror, record: RunRecord, limitMs: number): Promise<number> {
  const lateAt = performance.now() + limitMs;
  const outcome = await waitFor(mirror, { names: null, goal: "exited", limitMs });
  if (outcome.kind !== "exit") return await conclude(mirror, outcome);
  while (isSame(record.orchestrator, record.bootId) && performance.now() < lateAt) await pause();
  print(`The orchestrator with PID ${record.orchestrator.pid} has stopped.`);
  return outcome.status ?? 1;
}

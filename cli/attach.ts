/**
 * `orchestrator attach`: the dashboard of a run in another process.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import type { Given } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { ask, reach, Unreachable } from "../control/client.ts";
import { Mirror } from "../control/mirror.ts";
import type { MessageOf } from "../control/protocol.ts";
import type { RunRecord } from "../control/run_folder.ts";
import { isSame } from "../process/procfs.ts";
import { handleSignals } from "../process/signals.ts";
import { Outlet, print } from "../terminal/outlet.ts";
import { PanelView } from "../terminal/panel_view.ts";
import { loadMeasure } from "../terminal/text.ts";
import { withRun } from "./running.ts";

const PATHS = { running: "/start", stopped: "/stop", restarted: "/restart" } as const;

/**
 * Shows a run until its user leaves or it ends.
 *
 * @returns 0 after leaving, otherwise the exit status of the run
 * @throws {UserError} without a terminal
 */
export function run(given: Given): Promise<number> {
  return withRun(given, (_, record) => attach(record));
}

async function attach(record: RunRecord): Promise<number> {
  if (!Deno.stdout.isTerminal() || !Deno.stdin.isTerminal()) {
    throw new UserError('attach needs a terminal; "orchestrator logs -f" and "orchestrator events" do not.');
  }
  const open = () => reach(record, (socket) => Mirror.open(socket, 1_000));
  let mirror = await open();
  let left = false;
  const leave = () => {
    left = true;
    mirror.close();
  };
  await loadMeasure();
  const view = new PanelView(new Outlet(), {
    snapshot: (recent) => ({
      at: mirror.at,
      stopping: mirror.stopping,
      services: mirror.services.map((row) => ({ ...row, recent: mirror.tail(row.name, recent) })),
    }),
    tail: (name, count) => mirror.tail(name, count),
    setDesired: (names, desired) =>
      void ask(mirror.socket, PATHS[desired], { names }).catch((error) => {
        if (!(error instanceof UserError || error instanceof Unreachable)) throw error;
        view.message(error.message);
      }),
  }, { quit: leave, hint: "q leaves this view; the services run on" });
  using _signals = handleSignals({ SIGINT: leave, SIGTERM: leave, SIGHUP: leave });
  let over: MessageOf<"exit"> | null = null;
  try {
    for (;;) {
      for await (const message of mirror.messages()) {
        if (message.kind === "exit") over = message;
        else if (message.kind === "output") view.event({ ...message, lines: encoder.encode(message.text) });
        else if (message.kind === "state" || message.kind === "log") view.event(message);
        await view.backpressure(); // what the terminal does not take yet waits at the other end
      }
      if (left || (over !== null && !over.restarting) || !isSame(record.orchestrator, record.bootId)) break;
      // It is restarting, its socket was put back, or we did not keep up: it is there and is followed again.
      if (over === null) view.message('some lines may not be shown here; "orchestrator logs" has them');
      over = null;
      mirror = await open();
    }
  } finally {
    mirror.close();
    await view.close();
  }
  if (left) return 0;
  print(over === null ? "The orchestrator exited unexpectedly." : "The orchestrator has stopped.");
  return over?.status ?? 1;
}

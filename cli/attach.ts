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
import type { Message, MessageOf } from "../control/protocol.ts";
import type { RunRecord } from "../control/run_folder.ts";
import { isSame } from "../process/procfs.ts";
import type { Desired } from "../supervisor/lifecycle.ts";
import type { Event } from "../supervisor/model.ts";
import { Outlet, print } from "../terminal/outlet.ts";
import { PanelView } from "../terminal/panel_view.ts";
import { withRun } from "./running.ts";

const PATHS = { running: "/start", stopped: "/stop", restarted: "/restart" } as const satisfies Record<
  Desired,
  string
>;

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
  let left = false;
  let mirror = await reach(record, (socket) => Mirror.open(socket, 1_000));
  const leave = () => {
    left = true;
    mirror.close();
  };
  const view = await PanelView.open(new Outlet(), {
    snapshot: (recent) => ({
      at: mirror.at,
      stopping: mirror.stopping,
      services: mirror.services.map((row) => ({ ...row, recent: mirror.tail(row.name, recent) })),
    }),
    tail: (name, count) => mirror.tail(name, count),
    setDesired: (names, desired) =>
      void requestDesired(mirror.socket, names, desired, (text) => view.message(text)),
  }, { quit: leave, hint: "q leaves this view; the services run on" });
  const signals: Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, leave);
  let over: MessageOf<"exit"> | null = null;
  try {
    for (;;) {
      for await (const message of mirror.messages()) {
        if (message.kind === "exit") over = message;
        const event = toEvent(message);
        if (event !== null) view.event(event);
        await view.backpressure(); // what the terminal does not take yet waits at the other end
      }
      if (left || (over !== null && !over.restarting) || !isSame(record.orchestrator, record.bootId)) break;
      // It is restarting, its socket was put back, or we did not keep up: it is there and is followed again.
      if (over === null) view.message('some lines may not be shown here; "orchestrator logs" has them');
      over = null;
      mirror = await reach(record, (socket) => Mirror.open(socket, 1_000));
    }
  } finally {
    mirror.close();
    for (const signal of signals) Deno.removeSignalListener(signal, leave);
    await view.close();
  }
  if (left) return 0;
  print(over === null ? "The orchestrator exited unexpectedly." : "The orchestrator has stopped.");
  return over?.status ?? 1;
}

async function requestDesired(
  socket: string,
  names: readonly string[],
  desired: Desired,
  report: (text: string) => void,
): Promise<void> {
  try {
    await ask(socket, PATHS[desired], { names });
  } catch (error) {
    if (!(error instanceof UserError || error instanceof Unreachable)) throw error;
    report(error.message);
  }
}

function toEvent(message: Message): Event | null {
  switch (message.kind) {
    case "state":
    case "log":
      return message;
    case "output": {
      const { kind, time, service, stream, text } = message;
      return { kind, time, service, stream, lines: encoder.encode(text) };
    }
    case "hello":
    case "services":
    case "exit":
      return null;
  }
}

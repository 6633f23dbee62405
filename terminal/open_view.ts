/**
 * Chooses the view of a run: the panel on a terminal, prefixed lines elsewhere, only faults in the background.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { View } from "./line_view.ts";
import { FaultView, LineView } from "./line_view.ts";
import { describeState } from "./messages.ts";
import { Outlet } from "./outlet.ts";
import { ownsTerminal, useColors } from "./palette.ts";
import { PanelView } from "./panel_view.ts";
import { loadMeasure } from "./text.ts";

/** What decides how a run is shown. */
export interface ViewOptions {
  /** `false`: prefixed lines even on a terminal; `"none"`: nothing is shown. */
  dashboard?: boolean | "none";
  /** Whether it runs in the background, where its logs hold everything and only faults are shown. */
  detached?: boolean;
}

/** Whether a run shows the panel. */
export function drawsPanel({ dashboard = true, detached = false }: ViewOptions): boolean {
  return dashboard === true && !detached && ownsTerminal();
}

/** Opens the view that the options and the output ask for. */
export async function openView(supervisor: Supervisor, options: ViewOptions): Promise<View> {
  if (options.dashboard === "none") return { event() {}, message() {}, close: () => Promise.resolve() };
  const outlet = new Outlet();
  if (options.detached) return new FaultView(outlet);
  if (drawsPanel(options)) {
    return await PanelView.open(outlet, {
      snapshot: (recent) => supervisor.snapshot(recent),
      tail: (name, count) => supervisor.tail(name, count),
      setDesired: (names, desired) => supervisor.setDesired(names, desired),
      quit: () => Deno.kill(Deno.pid, "SIGINT"),
    });
  }
  if (supervisor.services.some(({ name }) => !/^[\x20-\x7e]*$/.test(name))) await loadMeasure();
  const how = { terminal: Deno.stdout.isTerminal(), colors: useColors() };
  return new LineView(outlet, () => supervisor.services.map(({ name }) => name), how);
}

/** Says from time to time which services a stop waits for, until the run has ended. */
export async function reportStopping(supervisor: Supervisor): Promise<void> {
  const ended = new AbortController();
  supervisor.finished.then(() => ended.abort());
  for (let waitMs = 1_500; !ended.signal.aborted; waitMs = 3_000) {
    await systemClock.sleep(waitMs, ended.signal);
    const snapshot = supervisor.snapshot();
    const waiting = snapshot.services.filter(({ state }) => state.kind === "stopping");
    const names = waiting.map((row) => `${row.name} (${describeState(row, snapshot.at)})`);
    if (names.length > 0 && !ended.signal.aborted) supervisor.log("info", `waiting for ${names.join(", ")}`);
  }
}

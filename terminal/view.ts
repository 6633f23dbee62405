/**
 * The view of a run: the panel on a terminal, prefixed lines elsewhere, only faults in the background.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { decoder, encoder } from "../config/bytes.ts";
import { systemClock } from "../config/clock.ts";
import { readProcess } from "../process/procfs.ts";
import type { Listener } from "../supervisor/model.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import { describeState, namePrefix, prefixPaint, shownMessage } from "./messages.ts";
import { Outlet } from "./outlet.ts";
import { PanelView } from "./panel_view.ts";
import { prefixLines } from "./prefix.ts";
import { loadMeasure, stripControl, useColors } from "./text.ts";

/** What shows a run. */
export interface View extends Listener {
  /** Gives the terminal back; what comes afterwards is shown as plain lines. Closing again waits until those are written. */
  close(): Promise<void>;
}

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

/** Whether this process may draw: a shell's background job that touched the terminal would be stopped by it. */
function ownsTerminal(): boolean {
  if (!Deno.stdout.isTerminal() || Deno.env.get("TERM") === "dumb" || Deno.env.get("CI")) return false;
  const own = readProcess(Deno.pid);
  return own === null || own.group === own.terminalGroup || own.terminalGroup === -1;
}

/** Opens the view that the options and the output ask for. */
export async function openView(supervisor: Supervisor, options: ViewOptions): Promise<View> {
  if (options.dashboard === "none") return { event() {}, close: () => Promise.resolve() };
  const outlet = new Outlet();
  if (options.detached) return faultView(outlet);
  if (drawsPanel(options)) {
    await loadMeasure();
    return new PanelView(outlet, supervisor, { quit: () => Deno.kill(Deno.pid, "SIGINT") });
  }
  if (supervisor.services.some(({ name }) => !/^[\x20-\x7e]*$/.test(name))) await loadMeasure();
  return lineView(outlet, () => supervisor.services.map(({ name }) => name), {
    terminal: Deno.stdout.isTerminal(),
    colors: useColors(),
  });
}

/**
 * One line per line of a service, behind its name: for pipes, files and terminals that want no panel.
 *
 * @param names the services, in order: they set the width of the prefixes
 * @param output whether a terminal reads, which must not see a service's control codes, and whether in colour
 */
export function lineView(
  outlet: Outlet,
  names: () => readonly string[],
  output: { terminal: boolean; colors: boolean },
): View {
  const own = output.colors ? colors.bold("[orchestrator]") : "[orchestrator]";
  const prefixes = new Map<string, Uint8Array>();
  function prefixOf(name: string): Uint8Array {
    let prefix = prefixes.get(name);
    if (prefix === undefined) {
      const text = namePrefix(name, names());
      prefix = encoder.encode(`${output.colors ? prefixPaint(name, names())(text) : text} `);
      prefixes.set(name, prefix);
    }
    return prefix;
  }
  return {
    event(event) {
      if (event.kind === "output") {
        const lines = output.terminal
          ? encoder.encode(stripControl(decoder.decode(event.lines), output.colors))
          : event.lines;
        outlet.write(prefixLines(prefixOf(event.service), lines));
      } else {
        const text = shownMessage(event);
        if (text !== null) outlet.write(encoder.encode(`${own} ${text}\n`));
      }
    },
    backpressure: () => outlet.backpressure(),
    close: () => outlet.flush(),
  };
}

/** Only what went wrong, for a run in the background, whose events are in its logs. */
function faultView(outlet: Outlet): View {
  return {
    event(event) {
      if (event.kind === "log" && (event.level === "warn" || event.level === "error")) {
        outlet.write(encoder.encode(`${event.message}\n`));
      }
    },
    close: () => outlet.flush(),
  };
}

/** Reports from time to time which services a stop waits for, until the run has ended. */
export async function reportStopping(supervisor: Supervisor): Promise<void> {
  const ended = new AbortController();
  supervisor.finished.then(() => ended.abort());
  for (let waitMs = 1_500; !ended.signal.aborted; waitMs = 3_000) {
    await systemClock.sleep(waitMs, ended.signal);
    const { services, at } = supervisor.snapshot();
    const waiting = services.filter(({ state }) => state.kind === "stopping")
      .map((service) => `${service.name} (${describeState(service, at)})`);
    if (waiting.length > 0 && !ended.signal.aborted) {
      supervisor.log("info", `waiting for ${waiting.join(", ")}`);
    }
  }
}

/**
 * Views for pipes, files and background runs: one line per line.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { decoder, encoder } from "../config/bytes.ts";
import type { Event, Listener } from "../supervisor/model.ts";
import { shownMessage } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { namePrefix, prefixPaint } from "./palette.ts";
import { prefixLines } from "./prefix.ts";
import { displayWidth, stripControl } from "./text.ts";

/** What shows a run. */
export interface View extends Listener {
  /** Shows a line of the orchestrator's own. */
  message(text: string): void;
  /** Gives the terminal back; what comes afterwards is shown as plain lines. */
  close(): Promise<void>;
}

/** One line per service line behind its name, for pipes, files and terminals that want no panel. */
export class LineView implements View {
  readonly #outlet: Outlet;
  readonly #terminal: boolean;
  readonly #colors: boolean;
  readonly #prefixes = new Map<string, Uint8Array>();
  readonly #names: () => readonly string[];

  /**
   * @param names the services, in order: they set the width of the prefixes
   * @param how whether a terminal reads, which must not see a service's control codes, and whether in colour
   */
  constructor(
    outlet: Outlet,
    names: () => readonly string[],
    how: { terminal: boolean; colors: boolean },
  ) {
    this.#outlet = outlet;
    this.#names = names;
    this.#terminal = how.terminal;
    this.#colors = how.colors;
  }

  event(event: Event): void {
    if (event.kind === "output") {
      const lines = this.#terminal
        ? encoder.encode(stripControl(decoder.decode(event.lines), this.#colors))
        : event.lines;
      this.#outlet.write(prefixLines(this.#prefix(event.service), lines));
    } else {
      const text = shownMessage(event);
      if (text !== null) this.message(text);
    }
  }

  backpressure(): Promise<void> | null {
    return this.#outlet.backpressure();
  }

  message(text: string): void {
    const prefix = this.#colors ? colors.bold("[orchestrator]") : "[orchestrator]";
    this.#outlet.write(encoder.encode(`${prefix} ${text}\n`));
  }

  async close(): Promise<void> {
    await this.#outlet.flush();
  }

  #prefix(name: string): Uint8Array {
    let prefix = this.#prefixes.get(name);
    if (prefix === undefined) {
      const text = namePrefix(name, this.#names(), displayWidth);
      prefix = encoder.encode(`${this.#colors ? prefixPaint(name, this.#names())(text) : text} `);
      this.#prefixes.set(name, prefix);
    }
    return prefix;
  }
}

/** Only what went wrong, for a run in the background, whose events are in its logs. */
export class FaultView implements View {
  readonly #outlet: Outlet;

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
  }

  event(event: Event): void {
    if (event.kind === "log" && (event.level === "warn" || event.level === "error")) {
      this.message(event.message);
    }
  }

  message(text: string): void {
    this.#outlet.write(encoder.encode(`${text}\n`));
  }

  async close(): Promise<void> {
    await this.#outlet.flush();
  }
}

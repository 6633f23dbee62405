/**
 * The log stream with the panel below it, and what its keys do.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { decoder, encoder } from "../config/bytes.ts";
import { systemClock } from "../config/clock.ts";
import { UserError } from "../config/errors.ts";
import { Tail } from "../process/lines.ts";
import { handleSignals, resumeOutput } from "../process/signals.ts";
import type { Desired } from "../supervisor/lifecycle.ts";
import type { Event, Listener, Snapshot } from "../supervisor/model.ts";
import type { Choices } from "./dashboard.ts";
import { dashboard } from "./dashboard.ts";
import { namePrefix, prefixPaint, shownMessage } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import type { Key } from "./screen.ts";
import { KeyReader, Terminal } from "./screen.ts";
import { stripControl } from "./text.ts";

/** What a panel shows: a run in this process, or one that it is attached to. */
export interface PanelSource {
  snapshot(recent: number): Snapshot;
  tail(name: string, count: number): readonly string[];
  /** What the keys `r` `s` `S` ask for. */
  setDesired(names: readonly string[], desired: Desired): void;
}

const DESIRED_BY_KEY = { r: "restarted", s: "stopped", S: "running" } as const satisfies Record<
  string,
  Desired
>;

/** The log stream with the panel below it. */
export class PanelView implements Listener {
  static readonly PERIOD_MS = 500;
  /** Without a change of size for this long, its last one is known: tmux reports them every 250 ms at most. */
  static readonly RESIZE_MS = 300;
  readonly #terminal: Terminal;
  readonly #choices: Choices = { selected: null, narrowed: null, help: false };
  readonly #signals: Disposable;
  #cancelDraw = () => {};
  #drawnAt = -Infinity;
  #resizedAt = -Infinity;
  /** While the shell has the terminal, or is about to get it. */
  #suspended: PromiseWithResolvers<void> | null = null;
  #closed = false;

  /**
   * Takes over the terminal. `loadMeasure` comes first.
   *
   * @param leaving what `q` does, and the hint on it that stands below the panel
   */
  constructor(
    readonly outlet: Outlet,
    readonly source: PanelSource,
    readonly leaving: { quit(): void; hint?: string },
  ) {
    this.#terminal = new Terminal(outlet, Deno.stdin.isTerminal());
    this.#seize();
    this.#signals = handleSignals({
      SIGINT: () => this.#resume(),
      SIGWINCH: () => this.#resized(),
      SIGTSTP: () => void this.#suspend(),
      SIGCONT: () => this.#continue(),
    });
    if (Deno.stdin.isTerminal()) this.#listen();
  }

  event(event: Event): void {
    if (event.kind === "output") {
      const { narrowed } = this.#choices;
      if (narrowed === null || narrowed === event.service) {
        this.#print(event.service, decoder.decode(event.lines));
      }
      return;
    }
    const text = shownMessage(event);
    if (text !== null) this.message(text);
    // Once, when what comes together has come.
    if (event.kind !== "log" && !this.#closed) {
      this.#drawIn(Math.max(0, this.#drawnAt + 30 - systemClock.now()));
    }
  }

  backpressure(): Promise<void> | null {
    return this.#suspended?.promise ?? this.outlet.backpressure();
  }

  /** Shows a line of the orchestrator's own. */
  message(text: string): void {
    // Below the last panel nobody else writes, and a traceback is to be copied as it is.
    if (this.#closed) this.outlet.write(encoder.encode(`${text}\n`));
    else this.#terminal.print(`${colors.bold("[orchestrator]")} ${text}\n`);
  }

  /** Gives the terminal back, with the last panel on it. Closing again writes what was shown since: a crash card. */
  async close(): Promise<void> {
    if (this.#closed) return await this.outlet.flush();
    this.#closed = true;
    this.#draw();
    this.#signals[Symbol.dispose]();
    await this.#release();
  }

  #seize(): void {
    if (Deno.stdin.isTerminal()) Deno.stdin.setRaw(true, { cbreak: Deno.build.os !== "windows" });
    this.#terminal.open();
    this.#draw();
  }

  /** Gives the terminal back. The mode of one that takes nothing is left alone: the system would wait until it does. */
  async #release(): Promise<void> {
    this.#terminal.close();
    this.#resume();
    await this.outlet.flush();
    if (!Deno.stdin.isTerminal() || this.outlet.waiting > 0) return;
    try {
      Deno.stdin.setRaw(false);
    } catch (error) {
      if (!(error instanceof Error)) throw error; // the terminal was closed: nothing is left to give back
    }
  }

  async #suspend(): Promise<void> {
    this.#suspended ??= Promise.withResolvers(); // the shell writes next
    await this.#release();
    Deno.kill(Deno.pid, "SIGSTOP");
  }

  #continue(): void {
    this.#suspended?.resolve();
    this.#suspended = null;
    this.#seize();
  }

  #resume(): void {
    if (this.outlet.waiting > 0) resumeOutput();
  }

  #resized(): void {
    this.#resizedAt = systemClock.now();
    this.#terminal.frame();
    this.#draw();
  }

  #print(name: string, lines: string): void {
    const names = this.source.snapshot(0).services.map((service) => service.name);
    const prefix = prefixPaint(name, names)(namePrefix(name, names));
    const text = stripControl(lines, !Deno.noColor);
    this.#terminal.print(text.replaceAll(/^(?!$(?![\s\S]))/gm, `${prefix} `));
  }

  #draw(): void {
    const resizing = this.#resizedAt + PanelView.RESIZE_MS - systemClock.now();
    if (resizing > 0 && !this.#closed) return this.#drawIn(resizing);
    this.#drawnAt = systemClock.now();
    const { size } = this.#terminal;
    const { hint = "Ctrl+C to stop all services" } = this.leaving;
    this.#terminal.draw(dashboard(this.source.snapshot(3), size, this.#choices, hint), size);
    if (this.#closed) this.#cancelDraw();
    else this.#drawIn(PanelView.PERIOD_MS);
  }

  #drawIn(ms: number): void {
    this.#cancelDraw();
    this.#cancelDraw = systemClock.wake(ms, () => this.#draw());
  }

  async #listen(): Promise<void> {
    const buffer = new Uint8Array(1_024);
    const keys = new KeyReader();
    while (!this.#closed) {
      // A terminal that was closed ends in an error; SIGHUP decides what to do about it.
      const count = await Deno.stdin.read(buffer).catch(() => null);
      if (count === null) return;
      for (const key of keys.read(decoder.decode(buffer.subarray(0, count)))) {
        if (!this.#closed) this.#press(key);
      }
    }
  }

  #press(key: Key): void {
    const choices = this.#choices;
    const { selected, narrowed } = choices;
    if (typeof key === "object") this.#terminal.located(key.row);
    switch (key) {
      case "up":
      case "down": {
        const names = this.source.snapshot(0).services.map(({ name }) => name);
        const index = selected === null ? -1 : names.indexOf(selected);
        const next = key === "down" ? (index + 1) % names.length : Math.max(index, 0) - 1;
        choices.selected = names.at(next) ?? null;
        break;
      }
      case "enter":
        if (selected === null || selected === narrowed) break;
        choices.narrowed = selected;
        this.message(`only lines of ${selected}, its last ones first; Esc shows all`);
        this.#print(
          selected,
          this.source.tail(selected, Tail.KEPT_LINES).map((line) => `${line}\n`).join(""),
        );
        break;
      case "escape":
        if (narrowed !== null) this.message("lines of all services");
        choices.narrowed = null;
        choices.help = false;
        break;
      case "?":
        choices.help = !choices.help;
        break;
      case "q":
        this.leaving.quit();
        break;
      case "r":
      case "s":
      case "S":
        this.#ask(DESIRED_BY_KEY[key]);
        break;
    }
    this.#draw();
  }

  #ask(desired: Desired): void {
    const { selected } = this.#choices;
    if (selected === null) return this.message("choose a service with the arrow keys first");
    try {
      this.source.setDesired([selected], desired);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.message(error.message);
    }
  }
}

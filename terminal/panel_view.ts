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
import { handleSignals } from "../process/signals.ts";
import type { Desired } from "../supervisor/lifecycle.ts";
import type { Event, Listener, Snapshot } from "../supervisor/model.ts";
import type { Choices } from "./dashboard.ts";
import { dashboard } from "./dashboard.ts";
import { shownMessage } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { namePrefix, prefixPaint } from "./palette.ts";
import type { Key } from "./screen.ts";
import { KeyReader, Terminal } from "./screen.ts";
import { loadMeasure, stripControl } from "./text.ts";

/** What a panel shows: a run in this process, or one that it is attached to. */
export interface PanelSource {
  snapshot(recent: number): Snapshot;
  tail(name: string, count: number): readonly string[];
  /** What the keys `r` `s` `S` ask for. */
  setDesired(names: readonly string[], desired: Desired): void;
}

/** How someone leaves a panel. */
export interface Leaving {
  /** What `q` does. */
  quit(): void;
  /** Stands below the panel. */
  hint?: string;
}

/** The log stream with the panel below it. */
export class PanelView implements Listener {
  static readonly PERIOD_MS = 500;
  /** Without a change of size for this long, its last one is known: tmux reports them every 250 ms at most. */
  static readonly RESIZE_MS = 300;
  readonly #terminal: Terminal;
  readonly #choices: Choices = { selected: null, narrowed: null, help: false };
  #signals: Disposable | null = null;
  #cancelDraw = () => {};
  #drawnAt = -Infinity;
  #resizedAt = -Infinity;
  #closed = false;

  private constructor(
    readonly outlet: Outlet,
    readonly source: PanelSource,
    readonly leaving: Leaving,
  ) {
    this.#terminal = new Terminal(outlet, Deno.stdin.isTerminal());
  }

  /** Takes over the terminal. */
  static async open(outlet: Outlet, source: PanelSource, leaving: Leaving): Promise<PanelView> {
    await loadMeasure();
    const view = new PanelView(outlet, source, leaving);
    view.#seize();
    view.#signals = handleSignals({
      SIGWINCH: () => view.#resized(),
      SIGTSTP: () => void view.#suspend(),
      SIGCONT: () => view.#seize(),
    });
    if (Deno.stdin.isTerminal()) view.#listen();
    return view;
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
    return this.outlet.backpressure();
  }

  /** Shows a line of the orchestrator's own. */
  message(text: string): void {
    // Below the last panel nobody else writes, and a traceback is to be copied as it is.
    if (this.#closed) this.outlet.write(encoder.encode(`${text}\n`));
    else this.#terminal.print(`${colors.bold("[orchestrator]")} ${text}\n`);
  }

  /** Gives the terminal back, with the last panel on it. Closing again writes what was shown since: a crash card. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#draw();
      this.#signals?.[Symbol.dispose]();
      this.#release();
    }
    await this.outlet.flush();
  }

  #seize(): void {
    if (Deno.stdin.isTerminal()) Deno.stdin.setRaw(true, { cbreak: Deno.build.os !== "windows" });
    this.#terminal.open();
    this.#draw();
  }

  #release(): void {
    this.#terminal.close();
    try {
      if (Deno.stdin.isTerminal()) Deno.stdin.setRaw(false);
    } catch (error) {
      if (!(error instanceof Error)) throw error; // the terminal was closed: nothing is left to give back
    }
  }

  async #suspend(): Promise<void> {
    this.#release();
    await this.outlet.flush(); // the shell writes next
    Deno.kill(Deno.pid, "SIGSTOP");
  }

  #resized(): void {
    this.#resizedAt = systemClock.now();
    this.#terminal.resized();
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
    switch (key.kind) {
      case "located":
        this.#terminal.located(key.row);
        break;
      case "up":
      case "down": {
        const names = this.source.snapshot(0).services.map(({ name }) => name);
        const index = selected === null ? -1 : names.indexOf(selected);
        const next = key.kind === "down" ? (index + 1) % names.length : Math.max(index, 0) - 1;
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
      case "character":
        this.#command(key.character);
        break;
    }
    this.#draw();
  }

  #command(character: string): void {
    switch (character) {
      case "q":
        return this.leaving.quit();
      case "?":
        this.#choices.help = !this.#choices.help;
        break;
      case "r":
        return this.#ask("restarted");
      case "s":
        return this.#ask("stopped");
      case "S":
        return this.#ask("running");
    }
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

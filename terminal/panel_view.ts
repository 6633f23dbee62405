/**
 * The log stream with the panel below it, and what its keys do.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { decoder, encoder } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import { systemClock } from "../config/clock.ts";
import { Tail } from "../process/lines.ts";
import type { Desired } from "../supervisor/lifecycle.ts";
import type { Event, Snapshot } from "../supervisor/model.ts";
import type { PanelState } from "./dashboard.ts";
import { dashboard } from "./dashboard.ts";
import type { Key } from "./keys.ts";
import { KeyReader } from "./keys.ts";
import type { View } from "./line_view.ts";
import { shownMessage } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { namePrefix, prefixPaint } from "./palette.ts";
import { Terminal } from "./screen.ts";
import { displayWidth, loadMeasure, stripControl } from "./text.ts";

/** What a panel shows and what its keys do: a run in this process, or one that it is attached to. */
export interface PanelSource {
  snapshot(recent: number): Snapshot;
  tail(name: string, count: number): string[];
  /** What the keys `r` `s` `S` ask for. */
  setDesired(names: readonly string[], desired: Desired): void;
  /** What `q` does. */
  quit(): void;
  /** What stands below the panel instead of how to stop everything. */
  hint?: string;
}

/** What the keys ask for. */
const DESIRED_BY_KEY: ReadonlyMap<string, Desired> = new Map([
  ["r", "restarted"],
  ["s", "stopped"],
  ["S", "running"],
]);

/** The log stream with the panel below it. */
export class PanelView implements View {
  static readonly PERIOD_MS = 500;
  /** Without a change of size for this long, its last one is known: tmux reports them every 250 ms at most. */
  static readonly RESIZE_MS = 300;
  readonly #outlet: Outlet;
  readonly #terminal: Terminal;
  readonly #source: PanelSource;
  readonly #colors = !Deno.noColor;
  #look: PanelState;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drawnAt = -Infinity;
  #resizedAt = -Infinity;
  #closed = false;
  readonly #resized = () => {
    this.#resizedAt = systemClock.now();
    this.#terminal.resized();
    this.#draw();
  };
  readonly #suspended = async () => {
    this.#release();
    await this.#outlet.flush(); // the shell writes next
    Deno.kill(Deno.pid, "SIGSTOP");
  };
  readonly #resumed = () => this.#seize();

  private constructor(outlet: Outlet, source: PanelSource) {
    this.#outlet = outlet;
    this.#source = source;
    this.#terminal = new Terminal(outlet, Deno.stdin.isTerminal());
    this.#look = { selected: null, narrowed: null, help: false, colors: this.#colors, hint: source.hint };
  }

  /** Takes over the terminal. */
  static async open(outlet: Outlet, source: PanelSource): Promise<PanelView> {
    await loadMeasure();
    const view = new PanelView(outlet, source);
    view.#seize();
    if (Deno.build.os !== "windows") {
      Deno.addSignalListener("SIGWINCH", view.#resized);
      Deno.addSignalListener("SIGTSTP", view.#suspended);
      Deno.addSignalListener("SIGCONT", view.#resumed);
    }
    if (Deno.stdin.isTerminal()) view.#listen();
    return view;
  }

  event(event: Event): void {
    switch (event.kind) {
      case "output":
        if (this.#look.narrowed === null || this.#look.narrowed === event.service) {
          this.#print(event.service, decoder.decode(event.lines));
        }
        break;
      case "log":
      case "state":
      case "services": {
        const text = shownMessage(event);
        if (text !== null) this.message(text);
        if (event.kind !== "log") this.#drawSoon();
        break;
      }
    }
  }

  backpressure(): Promise<void> | null {
    return this.#outlet.backpressure();
  }

  message(text: string): void {
    const prefix = this.#colors ? colors.bold("[orchestrator]") : "[orchestrator]";
    // Below the last panel nobody else speaks, and a traceback is to be copied as it is.
    if (this.#closed) this.#outlet.write(encoder.encode(`${text}\n`));
    else this.#terminal.print(`${prefix} ${text}\n`);
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#draw();
      if (Deno.build.os !== "windows") {
        Deno.removeSignalListener("SIGWINCH", this.#resized);
        Deno.removeSignalListener("SIGTSTP", this.#suspended);
        Deno.removeSignalListener("SIGCONT", this.#resumed);
      }
      this.#release();
    }
    await this.#outlet.flush(); // also what was shown since: a crash card comes after the panel
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

  #print(name: string, lines: string): void {
    const names = this.#source.snapshot(0).services.map((service) => service.name);
    const prefix = namePrefix(name, names, displayWidth);
    const painted = this.#colors ? prefixPaint(name, names)(prefix) : prefix;
    const text = stripControl(lines, this.#colors);
    this.#terminal.print(text.replaceAll(/^(?!$(?![\s\S]))/gm, `${painted} `));
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const resizing = this.#resizedAt + PanelView.RESIZE_MS - systemClock.now();
    if (resizing > 0 && !this.#closed) {
      this.#timer = setTimeout(() => this.#draw(), resizing);
      return;
    }
    this.#drawnAt = systemClock.now();
    const { size } = this.#terminal;
    const screen = { ...size, widthOf: displayWidth };
    this.#terminal.draw(dashboard(this.#source.snapshot(3), screen, this.#look), size);
    if (!this.#closed) this.#timer = setTimeout(() => this.#draw(), PanelView.PERIOD_MS);
  }

  /** Draws once, when what comes together has come. */
  #drawSoon(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    const since = systemClock.now() - this.#drawnAt;
    this.#timer = setTimeout(() => this.#draw(), Math.max(0, 30 - since));
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
    const rows = this.#source.snapshot(0).services;
    const { selected, narrowed } = this.#look;
    switch (key.kind) {
      case "located":
        this.#terminal.located(key.row);
        break;
      case "up":
      case "down": {
        const index = rows.findIndex(({ name }) => name === selected);
        const next = key.kind === "down" ? index + 1 : index === -1 ? rows.length - 1 : index - 1;
        this.#look = { ...this.#look, selected: rows[(next + rows.length) % rows.length]?.name ?? null };
        break;
      }
      case "enter":
        if (selected === null || selected === narrowed) break;
        this.#look = { ...this.#look, narrowed: selected };
        this.message(`only lines of ${selected}, its last ones first; Esc shows all`);
        this.#print(
          selected,
          this.#source.tail(selected, Tail.KEPT_LINES).map((line) => `${line}\n`).join(""),
        );
        break;
      case "escape":
        if (narrowed !== null) this.message("lines of all services");
        this.#look = { ...this.#look, narrowed: null, help: false };
        break;
      case "character":
        this.#command(key.character, selected);
        break;
    }
    this.#draw();
  }

  #command(character: string, selected: string | null): void {
    const desired = DESIRED_BY_KEY.get(character);
    if (character === "q") this.#source.quit();
    else if (character === "?") this.#look = { ...this.#look, help: !this.#look.help };
    else if (desired !== undefined) {
      try {
        if (selected === null) this.message("choose a service with the arrow keys first");
        else this.#source.setDesired([selected], desired);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        this.message(error.message);
      }
    }
  }
}

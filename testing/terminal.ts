/**
 * A real terminal for tests: a tmux server of its own with one window, in which a shell waits for commands.
 *
 * @module
 */

import { decoder } from "../config/bytes.ts";
import { endMarked, newMark, NOTHING_IGNORED, orchestratorCommand, waitUntil } from "./run.ts";

/** Why no terminal can be had here, or `null` when it can. Its lack is a failure where nothing may be ignored. */
export function whyNoTerminal(): string | null {
  try {
    new Deno.Command("tmux", { args: ["-V"], stdin: "null" }).outputSync();
    return null;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) || NOTHING_IGNORED) throw error;
    return "tmux is not installed";
  }
}

/** How a terminal is made. */
export interface TerminalOptions {
  columns?: number;
  rows?: number;
  /** Of the test's environment, over which these come; `undefined` takes one away. `CI` is away already. */
  environment?: Readonly<Record<string, string | undefined>>;
}

/** What of a terminal is not text. Columns and rows count from 0. */
export interface TerminalState {
  column: number;
  row: number;
  cursorShown: boolean;
  alternateScreen: boolean;
  /** The first and the last row that scroll. */
  region: [number, number];
  /** Rows that have left the screen at its top. */
  scrolledOff: number;
  title: string;
}

/** A word as a shell reads it. */
export function quote(word: string): string {
  return /^[\w./=:,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What to type to start the orchestrator. */
export function commandLine(...args: string[]): string {
  return [...orchestratorCommand(), ...args].map(quote).join(" ");
}

/** Whether a bare prompt is the last row; a Ctrl+C that no program took is echoed before it. */
function endsWithPrompt(rows: readonly string[]): boolean {
  return /^(\^C)?\$>$/.test(rows.findLast((row) => row !== "") ?? "");
}

/** One terminal window. Leaving its scope ends it and everything started in it. */
export class TestTerminal implements AsyncDisposable {
  /** The prompt of its shell. */
  static readonly PROMPT = "$> ";
  readonly #folder: string;
  readonly #mark: { name: string; value: string };

  private constructor(folder: string, mark: { name: string; value: string }) {
    this.#folder = folder;
    this.#mark = mark;
  }

  /** Opens a window in which a shell has printed its prompt. */
  static async open(
    { columns = 80, rows = 24, environment = {} }: TerminalOptions = {},
  ): Promise<TestTerminal> {
    const folder = await Deno.makeTempDir({ prefix: "orchestrator-terminal-" });
    const terminal = new TestTerminal(folder, newMark());
    await Deno.writeTextFile(
      `${folder}/tmux.conf`,
      "set -g history-limit 200000\nset -g status off\nset -g default-terminal tmux-256color\nset -s escape-time 0\n",
    );
    const whole: Record<string, string | undefined> = {
      ...Deno.env.toObject(),
      LANG: "C.UTF-8",
      LC_ALL: "C.UTF-8",
      DENO_NO_UPDATE_CHECK: "1",
      TMUX: undefined,
      CI: undefined,
      NO_COLOR: undefined,
      ...environment,
      [terminal.#mark.name]: terminal.#mark.value,
    };
    const env = Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== undefined));
    const size = ["-x", `${columns}`, "-y", `${rows}`];
    const shell = `exec env PS1='${TestTerminal.PROMPT}' /bin/sh`; // the shell in between would set its own
    const { success, stderr } = await new Deno.Command("tmux", {
      args: [...terminal.#server(), "-f", `${folder}/tmux.conf`, "new-session", "-d", ...size, shell],
      env: env as Record<string, string>,
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!success) throw new Error(`tmux does not start: ${decoder.decode(stderr)}`);
    try {
      await terminal.ready();
    } catch (error) {
      await terminal[Symbol.asyncDispose]();
      throw error;
    }
    return terminal;
  }

  #server(): string[] {
    return ["-S", `${this.#folder}/socket`];
  }

  async #tmux(...args: string[]): Promise<string> {
    const command = new Deno.Command("tmux", { args: [...this.#server(), ...args], stdin: "null" });
    const { success, stdout, stderr } = await command.output();
    if (!success) throw new Error(`tmux ${args.join(" ")}: ${decoder.decode(stderr)}`);
    return decoder.decode(stdout);
  }

  /** Types a text and Enter, once the text is seen: until the shell is ready again, no bare prompt is the last row. */
  async type(text: string): Promise<void> {
    await this.#tmux("send-keys", "-l", text);
    await waitUntil(async () => !endsWithPrompt(await this.rows()), "what is typed is seen");
    await this.keys("Enter");
  }

  /** Waits until the shell reads a command: its prompt is the last row. Gives the screen of that moment. */
  async ready(): Promise<string[]> {
    let rows: string[] = [];
    try {
      return await waitUntil(async () => {
        rows = await this.rows();
        return endsWithPrompt(rows) ? rows : null;
      }, "the shell is ready");
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}; it shows:\n${rows.join("\n")}`);
    }
  }

  /** Presses keys by tmux's names for them: `Up`, `Enter`, `Escape`, `C-c`, `q`. */
  async keys(...names: string[]): Promise<void> {
    await this.#tmux("send-keys", ...names);
  }

  /** Pastes a text as a terminal does: between marks, where the program has asked for them. */
  async paste(text: string): Promise<void> {
    await this.#tmux("set-buffer", "--", text);
    await this.#tmux("paste-buffer", "-p");
  }

  /** The rows of the screen without the blanks at their ends. `styled`: with their colours as escape sequences. */
  async rows(styled: "styled" | "plain" = "plain"): Promise<string[]> {
    const text = await this.#tmux("capture-pane", "-p", ...styled === "styled" ? ["-e"] : []);
    return text.replace(/\n$/, "").split("\n").map((row) => row.trimEnd());
  }

  /** Everything since the window was opened, scrolled off or not, with wrapped rows joined. */
  async history(): Promise<string[]> {
    const text = await this.#tmux("capture-pane", "-p", "-J", "-S", "-");
    return text.replace(/\n$/, "").split("\n").map((line) => line.trimEnd());
  }

  /** What is not text. */
  async state(): Promise<TerminalState> {
    const names = [
      "cursor_x",
      "cursor_y",
      "cursor_flag",
      "alternate_on",
      "scroll_region_upper",
      "scroll_region_lower",
      "history_size",
    ];
    const answer = await this.#tmux(
      "display-message",
      "-p",
      [...names, "pane_title"].map((name) => `#{${name}}`).join(" "),
    );
    const [column = 0, row = 0, shown, alternate, upper = 0, lower = 0, scrolledOff = 0] = answer.split(" ")
      .map(Number);
    return {
      column,
      row,
      cursorShown: shown === 1,
      alternateScreen: alternate === 1,
      region: [upper, lower],
      scrolledOff,
      title: answer.trim().split(" ").slice(names.length).join(" "),
    };
  }

  /** Makes the window larger or smaller. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", `${columns}`, "-y", `${rows}`);
  }

  /** Closes the window as its user would: what runs in it gets SIGHUP. */
  async closeWindow(): Promise<void> {
    await this.#tmux("kill-server");
  }

  /** Waits until a row of the screen matches, and gives the screen of that moment. */
  async shows(pattern: RegExp | string): Promise<string[]> {
    const matches = (row: string) => typeof pattern === "string" ? row.includes(pattern) : pattern.test(row);
    let rows: string[] = [];
    try {
      return await waitUntil(async () => {
        rows = await this.rows();
        return rows.some(matches) ? rows : null;
      }, `the screen shows ${pattern}`);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}; it shows:\n${rows.join("\n")}`);
    }
  }

  /** Runs a command in the shell and gives what it printed, once the shell is ready again. */
  async run(command: string): Promise<string[]> {
    const before = (await this.history()).findLastIndex((line) => line !== "");
    await this.type(command);
    const done = await waitUntil(async () => {
      const lines = (await this.history()).slice(before + 1);
      const end = lines.findLastIndex((line) => line !== "");
      return end >= 0 && lines[end] === TestTerminal.PROMPT.trim() ? lines.slice(0, end) : null;
    }, `the shell is ready after ${command}`);
    return done;
  }

  /** The variable that everything started in the window carries, for `processesWith`. */
  get mark(): string {
    return `${this.#mark.name}=${this.#mark.value}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Deno.Command("tmux", {
      args: [...this.#server(), "kill-server"],
      stdin: "null",
      stderr: "null",
    })
      .output();
    await endMarked(this.mark);
    await Deno.remove(this.#folder, { recursive: true });
  }
}

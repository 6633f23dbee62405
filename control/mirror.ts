/**
 * A run as a client sees it: its services, kept up to date by the event stream.
 *
 * @module
 */

import { formatSpan } from "../config/duration.ts";
import { crashCard, shownMessage } from "../terminal/messages.ts";
import { print } from "../terminal/outlet.ts";
import type { ServiceSnapshot } from "../supervisor/model.ts";
import { Tail } from "../process/lines.ts";
import { useColors } from "../terminal/palette.ts";
import { ask, lines, request, Unreachable } from "./client.ts";
import type { Message, MessageOf } from "./protocol.ts";
import { readMessage } from "./protocol.ts";

/** The services of a run and their last lines, as of the last message that was read. */
export class Mirror {
  readonly socket: string;
  readonly hello: MessageOf<"hello">;
  readonly #messages: AsyncGenerator<Message>;
  readonly #abort: AbortController;
  readonly #rows = new Map<string, ServiceSnapshot>();
  readonly #tails = new Map<string, string[]>();
  /** What is to be added to this process's steady clock to get the orchestrator's. */
  readonly #aheadMs: number;
  stopping: boolean;

  private constructor(
    socket: string,
    hello: MessageOf<"hello">,
    messages: AsyncGenerator<Message>,
    abort: AbortController,
  ) {
    this.socket = socket;
    this.hello = hello;
    this.#messages = messages;
    this.#abort = abort;
    this.#aheadMs = hello.at - performance.now();
    this.stopping = hello.stopping;
    this.#takeRows(hello.services);
  }

  /**
   * Begins to follow a run.
   *
   * @param recent how many of each service's last lines are wanted
   * @throws {Unreachable} when nobody answers
   */
  static async open(socket: string, recent: number): Promise<Mirror> {
    const reply = await request(socket, "GET", `/events?recent=${recent}`);
    const abort = new AbortController();
    const messages = readMessages(lines(reply, abort.signal));
    const first = await messages.next();
    if (first.done || first.value.kind !== "hello") {
      abort.abort();
      throw new Unreachable("it sends no events");
    }
    return new Mirror(socket, first.value, messages, abort);
  }

  /** The services, in starting order. */
  get services(): readonly ServiceSnapshot[] {
    return [...this.#rows.values()];
  }

  /** The present moment of the orchestrator's steady clock. */
  get at(): number {
    return performance.now() + this.#aheadMs;
  }

  row(name: string): ServiceSnapshot | undefined {
    return this.#rows.get(name);
  }

  /** The last lines of a service, oldest first. */
  tail(name: string, count: number): readonly string[] {
    return this.#tails.get(name)?.slice(-count) ?? [];
  }

  /** What happens, until the stream ends. The mirror is up to date with each of them. */
  async *messages(): AsyncGenerator<Message> {
    for await (const message of this.#messages) {
      switch (message.kind) {
        case "state":
          this.#rows.set(message.row.name, message.row);
          break;
        case "services":
          this.#takeRows(message.services);
          break;
        case "output":
          this.#keep(message.service, message.text);
          break;
        case "exit":
          this.stopping = true;
          break;
      }
      yield message;
    }
  }

  /** Stops following. */
  close(): void {
    this.#abort.abort();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #takeRows(rows: readonly ServiceSnapshot[]): void {
    this.#rows.clear();
    for (const row of rows) {
      this.#rows.set(row.name, row);
      if (row.recent.length > 0) this.#tails.set(row.name, [...row.recent]);
    }
  }

  #keep(name: string, text: string): void {
    const tail = this.#tails.get(name) ?? [];
    const more = text.split("\n").slice(0, -1);
    tail.push(...more.slice(-Tail.KEPT_LINES));
    if (tail.length > 2 * Tail.KEPT_LINES) tail.splice(0, tail.length - Tail.KEPT_LINES);
    this.#tails.set(name, tail);
  }
}

async function* readMessages(texts: AsyncGenerator<string>): AsyncGenerator<Message> {
  for await (const text of texts) {
    const message = readMessage(text);
    if (message !== null) yield message;
  }
}

/** What services shall come to: running, running again after a stop, at rest; or the end of the whole run. */
export type Goal = "running" | "restarted" | "stopped" | "exited";

/** What came of waiting for it. */
export type WaitResult =
  | { kind: "reached" }
  | { kind: "failed"; row: ServiceSnapshot }
  | { kind: "blocked"; row: ServiceSnapshot }
  | { kind: "late"; rows: readonly ServiceSnapshot[]; wanted: Wanted }
  // The run is over, or the orchestrator exited unexpectedly (`status` is `null`).
  | { kind: "exit"; status: number | null; restarting: boolean };

/** What is waited for. */
export interface Wanted {
  /** The services; `null`: all that the run has. */
  names: readonly string[] | null;
  goal: Goal;
  /** Those that someone named: a task among them has to run again. */
  asked?: readonly string[];
  /** 0: not at all. */
  limitMs?: number;
}

/** Follows a run until services have come to what is wanted of them, and logs what happens meanwhile on stderr. */
export async function waitFor(mirror: Mirror, wanted: Wanted): Promise<WaitResult> {
  const { names, goal, asked = [], limitMs = Infinity } = wanted;
  if (limitMs === 0) return { kind: "reached" }; // nobody wants to wait: that it was accepted is enough
  const came = new Set<string>(); // to run, or to a good end, while we looked
  let late = false;
  const timer = limitMs === Infinity ? undefined : setTimeout(() => {
    late = true;
    mirror.close();
  }, limitMs);

  function isThere(row: ServiceSnapshot): boolean {
    if (goal === "exited") return false;
    if (goal === "stopped") return isAtRest(row);
    if (goal === "restarted" || came.has(row.name)) return came.has(row.name);
    const mayBeDone = names === null || (row.kind === "task" && !asked.includes(row.name));
    return row.state.kind === "running" || (mayBeDone && hasEnded(row));
  }
  // One that the run is about to get is not known yet.
  const isNew = (name: string) => goal !== "stopped" && mirror.row(name) === undefined;
  const rows = () => names === null ? mirror.services : names.flatMap((name) => mirror.row(name) ?? []);
  const remaining = () => rows().filter((row) => !isThere(row));
  const isReached = () => goal !== "exited" && remaining().length === 0 && !names?.some(isNew);

  try {
    if (isReached()) return { kind: "reached" };
    for await (const message of mirror.messages()) {
      logProgress(message);
      if (message.kind === "exit") {
        return { kind: "exit", status: message.status, restarting: message.restarting };
      }
      if (message.kind === "state" && (message.row.state.kind === "running" || hasEnded(message.row))) {
        if (message.from.kind !== "stopping") came.add(message.row.name);
      }
      if (isReached()) return { kind: "reached" };
      if (goal === "stopped" || goal === "exited" || message.kind !== "state") continue;
      const left = remaining();
      const failed = left.find(({ state }) => state.kind === "crashed" || state.kind === "failed");
      if (failed !== undefined && failed.name === message.row.name) return { kind: "failed", row: failed };
      const blocked = left.find((row) => isBlocked(row, mirror));
      if (blocked !== undefined) return { kind: "blocked", row: blocked };
    }
    return late
      ? { kind: "late", rows: remaining(), wanted }
      : { kind: "exit", status: null, restarting: false };
  } finally {
    clearTimeout(timer);
  }
}

/** Whether a service came to its end by itself, with status 0. */
function hasEnded({ state }: ServiceSnapshot): boolean {
  return state.kind === "stopped" && state.lastExit?.kind === "exited" && state.lastExit.code === 0;
}

function isAtRest({ state }: ServiceSnapshot): boolean {
  return state.kind === "stopped" || state.kind === "crashed" || state.kind === "failed";
}

/** Whether a service waits for one that has ended, so that nothing will start it by itself. */
function isBlocked({ state }: ServiceSnapshot, mirror: Mirror): boolean {
  return state.kind === "pending" && state.waitingFor.some((name) => {
    const other = mirror.row(name);
    return other !== undefined && other.kind !== "task" && isAtRest(other);
  });
}

/** Logs on stderr what a view of lines shows. */
export function logProgress(message: Message): void {
  if (message.kind !== "log" && message.kind !== "state") return;
  const text = shownMessage(message);
  if (text !== null) print(`[orchestrator] ${text}`, Deno.stderr);
}

/** Shows why a service failed, as the last thing: its crash card. */
async function reportFailure(mirror: Mirror, row: ServiceSnapshot): Promise<void> {
  // Its failure may end the whole run: that is logged first.
  const stopping = await isClosing(mirror.socket);
  if (stopping) {
    for await (const message of mirror.messages()) if (message.kind === "state") logProgress(message);
  }
  const card = crashCard(row, mirror.tail(row.name, Tail.KEPT_LINES), useColors());
  print(card.join("\n"), Deno.stderr);
}

async function isClosing(socket: string): Promise<boolean> {
  try {
    return (await ask(socket, "/status")).stopping;
  } catch (error) {
    if (error instanceof Unreachable) return true; // it has closed already
    throw error;
  }
}

/** Reports what came of waiting for services to run. @returns the exit status */
export async function conclude(mirror: Mirror, outcome: WaitResult): Promise<number> {
  switch (outcome.kind) {
    case "reached":
      return 0;
    case "failed":
      await reportFailure(mirror, outcome.row);
      return 1;
    case "blocked": {
      const { state, name } = outcome.row;
      const awaited = state.kind === "pending" ? state.waitingFor.join(", ") : "";
      print(`orchestrator: ${name} is not started: it waits for ${awaited}.`, Deno.stderr);
      return 1;
    }
    case "late":
      print(`orchestrator: ${lateness(outcome.rows, outcome.wanted, mirror.at)}`, Deno.stderr);
      return 1;
    case "exit":
      if (outcome.status === null) print("orchestrator: The orchestrator exited unexpectedly.", Deno.stderr);
      return outcome.status ?? 1;
  }
}

/** The message when services have not come to what was wanted within its limit. */
function lateness(rows: readonly ServiceSnapshot[], { goal, limitMs = 0 }: Wanted, at: number): string {
  const names = rows.map(({ name }) => name).join(", ");
  const within = `within ${formatSpan(limitMs)}`;
  const verb = rows.length === 1 ? "has" : "have";
  if (goal === "running" || goal === "restarted") {
    return `${names} ${verb} not become ready ${within}; "orchestrator status" shows more.`;
  }
  const killAt = Math.max(...rows.map(({ state }) => state.kind === "stopping" ? state.killAt : -Infinity));
  const pronoun = rows.length === 1 ? "it" : "they";
  const next = Number.isFinite(killAt)
    ? `${pronoun} will be killed in ${formatSpan(Math.max(0, killAt - at))}`
    : '"orchestrator status" shows more';
  return `${names || "the orchestrator"} ${names === "" ? "has" : verb} not stopped ${within}; ${next}.`;
}

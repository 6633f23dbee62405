/**
 * A run as a client sees it: its services, kept up to date by the event stream, and what commands wait for there.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import { systemClock } from "../config/clock.ts";
import { formatSpan } from "../config/duration.ts";
import { Tail } from "../process/lines.ts";
import type { ServiceSnapshot } from "../supervisor/model.ts";
import { crashCard, describeState, shownMessage } from "../terminal/messages.ts";
import { print } from "../terminal/outlet.ts";
import { ask, lines, request, Unreachable } from "./client.ts";
import type { Message, MessageOf } from "./protocol.ts";
import { readMessage } from "./protocol.ts";
import { useColors } from "../terminal/text.ts";

/** The services of a run and their last lines, as of the last message that was read. */
export class Mirror implements Disposable {
  stopping: boolean;
  readonly #messages: AsyncGenerator<Message>;
  readonly #abort: AbortController;
  readonly #rows = new Map<string, ServiceSnapshot>();
  readonly #tails = new Map<string, Tail>();
  /** What is to be added to this process's steady clock to get the orchestrator's. */
  readonly #aheadMs: number;

  private constructor(
    readonly socket: string,
    readonly hello: MessageOf<"hello">,
    messages: AsyncGenerator<Message>,
    abort: AbortController,
  ) {
    this.stopping = hello.stopping;
    this.#messages = messages;
    this.#abort = abort;
    this.#aheadMs = hello.at - performance.now();
    this.#takeRows(hello.services);
    for (const { name, recent } of hello.services) {
      this.#keep(
        name,
        recent.map((line) => `${line}\n`).join(""),
      );
    }
  }

  /** Follows a run, with the last `recent` lines of each service. @throws {Unreachable} when nobody answers */
  static async open(socket: string, recent: number): Promise<Mirror> {
    const reply = await request(socket, "GET", `/events?recent=${recent}`);
    const abort = new AbortController();
    const messages = readMessages(lines(reply, abort.signal));
    const { value: hello } = await messages.next();
    if (hello?.kind === "hello") return new Mirror(socket, hello, messages, abort);
    abort.abort();
    throw new Unreachable("it sends no events");
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
  tail(name: string, count: number): string[] {
    return this.#tails.get(name)?.last(count) ?? [];
  }

  /** What happens, until the stream ends. The mirror is up to date with each of them. */
  async *messages(): AsyncGenerator<Message> {
    for await (const message of this.#messages) {
      if (message.kind === "state") this.#rows.set(message.row.name, message.row);
      if (message.kind === "services") this.#takeRows(message.services);
      if (message.kind === "output") this.#keep(message.service, message.text);
      if (message.kind === "exit") this.stopping = true;
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
    for (const row of rows) this.#rows.set(row.name, row);
  }

  #keep(name: string, text: string): void {
    if (text === "") return;
    const tail = this.#tails.get(name) ?? new Tail();
    tail.push(encoder.encode(text));
    this.#tails.set(name, tail);
  }
}

async function* readMessages(texts: AsyncIterable<string>): AsyncGenerator<Message> {
  for await (const text of texts) {
    const message = readMessage(text);
    if (message !== null) yield message;
  }
}

/** What services shall come to. */
export interface Wanted {
  /** The services; `null`: all that the run has. */
  names: readonly string[] | null;
  /** To run, to run again after a stop, to be at rest; or the end of the whole run. */
  goal: "running" | "restarted" | "stopped" | "exited";
  /** Those that someone named: a task among them has to run again. */
  asked?: readonly string[];
  /** 0: not at all. */
  limitMs?: number;
}

/** What came of waiting for it. */
export type WaitResult =
  | { kind: "reached" }
  | { kind: "failed"; row: ServiceSnapshot }
  // It takes too long, or one waits for what nobody starts.
  | { kind: "unmet"; message: string }
  // The run is over, or the orchestrator exited unexpectedly (`status` is `null`).
  | { kind: "exit"; status: number | null; restarting: boolean };

/** Follows a run until services have come to what is wanted of them, and logs what happens meanwhile on stderr. */
export async function waitFor(mirror: Mirror, wanted: Wanted): Promise<WaitResult> {
  const { names, goal, asked = [], limitMs = Infinity } = wanted;
  const isStart = goal === "running" || goal === "restarted";
  if (limitMs === 0) return { kind: "reached" }; // nobody wants to wait: that it was accepted is enough
  const came = new Set<string>(); // to run, or to a good end, while we looked

  function isThere(row: ServiceSnapshot): boolean {
    if (goal === "exited") return false;
    if (goal === "stopped") return hasEnded(row);
    if (goal === "restarted" || came.has(row.name)) return came.has(row.name);
    const mayBeDone = names === null || (row.kind === "task" && !asked.includes(row.name));
    return row.state.kind === "running" || (mayBeDone && hasSucceeded(row));
  }
  const rows = () => names === null ? mirror.services : names.flatMap((name) => mirror.row(name) ?? []);
  const remaining = () => rows().filter((row) => !isThere(row));
  // One that the run is about to get is not known yet.
  const isNew = (name: string) => goal !== "stopped" && mirror.row(name) === undefined;
  const isReached = () => goal !== "exited" && remaining().length === 0 && !names?.some(isNew);

  let isLate = false;
  const cancel = limitMs === Infinity ? () => {} : systemClock.wake(limitMs, () => {
    isLate = true;
    mirror.close();
  });
  try {
    if (isReached()) return { kind: "reached" };
    // Of services that were named, an earlier failure may be left.
    let found = names === null && isStart ? obstacle(remaining(), mirror, () => true) : null;
    if (found !== null) return found;
    for await (const message of mirror.messages()) {
      logProgress(message);
      if (message.kind === "exit") return message;
      if (message.kind === "state" && (message.row.state.kind === "running" || hasSucceeded(message.row))) {
        if (message.from.kind !== "stopping") came.add(message.row.name);
      }
      if (isReached()) return { kind: "reached" };
      if (message.kind !== "state" || !isStart) continue;
      found = obstacle(remaining(), mirror, ({ name }) => name === message.row.name);
      if (found !== null) return found;
    }
    return isLate
      ? { kind: "unmet", message: lateness(remaining(), wanted, mirror.at) }
      : { kind: "exit", status: null, restarting: false };
  } finally {
    cancel();
  }
}

/** What keeps services from running: a failure that is meant, or that one waits for what nobody starts. */
function obstacle(
  left: readonly ServiceSnapshot[],
  mirror: Mirror,
  isMeant: (row: ServiceSnapshot) => boolean,
): WaitResult | null {
  const failed = left.find((row) => hasFailed(row) && isMeant(row));
  if (failed !== undefined) return { kind: "failed", row: failed };
  const blocked = left.find((row) => isBlocked(row, mirror));
  if (blocked === undefined) return null;
  const why = describeState(blocked, mirror.at);
  return { kind: "unmet", message: `${blocked.name} is not started: it ${why}.` };
}

function hasFailed({ state }: ServiceSnapshot): boolean {
  return state.kind === "crashed" || state.kind === "failed";
}

function hasEnded(row: ServiceSnapshot): boolean {
  return row.state.kind === "stopped" || hasFailed(row);
}

/** Whether a service came to its end by itself, with status 0. */
function hasSucceeded({ state }: ServiceSnapshot): boolean {
  return state.kind === "stopped" && state.lastExit?.kind === "exited" && state.lastExit.code === 0;
}

/** Whether a service waits for one that has ended, so that nothing will start it by itself. */
function isBlocked({ state }: ServiceSnapshot, mirror: Mirror): boolean {
  return state.kind === "pending" && state.waitingFor.some((name) => {
    const other = mirror.row(name);
    return other !== undefined && other.kind !== "task" && hasEnded(other);
  });
}

/** The message when services have not come to what was wanted within its limit. */
function lateness(rows: readonly ServiceSnapshot[], { goal, limitMs = 0 }: Wanted, at: number): string {
  const names = rows.map(({ name }) => name).join(", ") || "the orchestrator";
  const [verb, pronoun] = rows.length > 1 ? ["have", "they"] : ["has", "it"];
  const missed = goal === "running" || goal === "restarted" ? "become ready" : "stopped";
  const killAt = Math.max(...rows.map(({ state }) => state.kind === "stopping" ? state.killAt : -Infinity));
  const next = missed === "stopped" && Number.isFinite(killAt)
    ? `${pronoun} will be killed in ${formatSpan(Math.max(0, killAt - at))}`
    : '"orchestrator status" shows more';
  return `${names} ${verb} not ${missed} within ${formatSpan(limitMs)}; ${next}.`;
}

/** Logs on stderr what a view of lines shows. */
function logProgress(message: Message): void {
  if (message.kind !== "log" && message.kind !== "state") return;
  const text = shownMessage(message);
  if (text !== null) print(`[orchestrator] ${text}`, Deno.stderr);
}

/** Reports what came of waiting for services. @returns the exit status */
export async function conclude(mirror: Mirror, result: WaitResult): Promise<number> {
  switch (result.kind) {
    case "reached":
      return 0;
    case "failed":
      await reportFailure(mirror, result.row);
      return 1;
    case "unmet":
      print(`orchestrator: ${result.message}`, Deno.stderr);
      return 1;
    case "exit":
      if (result.status === null) print("orchestrator: The orchestrator exited unexpectedly.", Deno.stderr);
      return result.status ?? 1;
  }
}

/** Shows why a service failed, as the last thing: its crash card. */
async function reportFailure(mirror: Mirror, row: ServiceSnapshot): Promise<void> {
  const status = await ask(mirror.socket, "/status").catch((error) => {
    if (!(error instanceof Unreachable)) throw error;
    return { stopping: true }; // it has closed already
  });
  // Its failure may end the whole run: that is logged first.
  if (status.stopping) {
    for await (const message of mirror.messages()) if (message.kind === "state") logProgress(message);
  }
  const card = crashCard(row, mirror.tail(row.name, Tail.KEPT_LINES), useColors());
  print(card.join("\n"), Deno.stderr);
}

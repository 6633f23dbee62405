/**
 * Asks one engine for tasks while there is room for them, and for commands while there is none.
 *
 * @module
 */
import { parseJson } from "../model/json.ts";
import { WireTask } from "../model/wire.ts";
import { type Answer, ConnectionError, type EngineHttp } from "./engine_http.ts";
import type { HeldTasks } from "./held_tasks.ts";
import { jittered } from "./waiting.ts";

/** A worker that is full, or whose type is, for less than this does not bother the engine with it. */
const SHORT_WAIT_MS = 250;
/** Above this many results on their way no more tasks are taken. */
const MOST_UNDELIVERED = 200;
/** Polls at once while tasks come at once, which is within this. */
const MOST_POLLS = 4;
const AT_ONCE_MS = 20;
/** With fewer places than engines they take turns, so nobody may sit on one for longer. */
const SHARED_WAIT_MS = 1_000;
const TIMEOUT_MS = 5_000;
const PAUSE_MS = 1_000;

/** What polls use of their connection. */
interface PollHost {
  readonly engine: EngineHttp;
  readonly tasks: HeldTasks;
  /** Whether this engine is the one to poll now. */
  readonly isTurn: boolean;
  /** Whether commands come by another way. */
  readonly hasSocket: boolean;
  /** Whether the last heartbeat names types that are full. */
  readonly isOverstated: boolean;
  heartbeat(): Promise<void>;
}

/** The polls of one engine. */
export class Polls {
  /** Until then one poll at a time will do. */
  #singleUntil = 0;

  constructor(readonly host: PollHost) {}

  /**
   * Polls until `stop`; `onAnswer` is called whenever one was answered as it should be.
   *
   * @throws ConnectionError when one was not
   */
  async poll(stop: AbortSignal, onAnswer: () => void): Promise<void> {
    const { host } = this;
    const { run, url } = host.engine;
    const { settings, slots, clock } = run;
    const shares = settings.MULTI_ORCHESTRATOR_MODE === "ROUND_ROBIN" &&
      settings.engines.length > settings.MAX_CONCURRENT_TASKS;
    const waitMs = shares ? Math.min(SHARED_WAIT_MS, settings.TASK_POLL_TIMEOUT) : settings.TASK_POLL_TIMEOUT;
    run.log("info", "polling_started", { engine: url });
    const others = new Set<Promise<void>>();
    try {
      while (!stop.aborted) {
        if (!host.isTurn || run.undelivered >= MOST_UNDELIVERED) {
          await run.changed.wait(PAUSE_MS, stop);
          continue;
        }
        if (!slots.tryAcquire() && !await this.#pollCommandsUntil(slots.acquire(stop))) break;
        const startedAt = clock.now();
        const isTaken = await this.#pollOnce(waitMs, stop);
        if (isTaken && others.size < MOST_POLLS - 1 && clock.now() - startedAt < AT_ONCE_MS) {
          const other = this.#pollMore(stop).then(() => void others.delete(other));
          others.add(other);
        }
        onAnswer();
      }
    } finally {
      await Promise.all(others);
    }
  }

  // Tasks wait for workers: one poll after the other would spend its time on the way there and back.
  async #pollMore(stop: AbortSignal): Promise<void> {
    const { run } = this.host.engine;
    const hasLimits = [...run.types.values()].some(({ maxConcurrent }) => maxConcurrent !== Infinity);
    if (hasLimits || run.clock.now() < this.#singleUntil) return;
    try {
      while (run.undelivered < MOST_UNDELIVERED && !stop.aborted && run.slots.tryAcquire()) {
        if (!await this.#pollOnce(SHORT_WAIT_MS, stop)) break;
      }
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // the main poll fails likewise, and sees to it
    }
    this.#singleUntil = run.clock.now() + PAUSE_MS;
  }

  // One poll, for which a slot has been taken. @returns whether a task began, and keeps the slot
  async #pollOnce(waitMs: number, stop: AbortSignal): Promise<boolean> {
    const { engine } = this.host;
    const { run } = engine;
    let isTaken = false;
    try {
      await this.#announceOpen(stop);
      const startedAt = run.clock.now();
      const answer = await this.#next("", waitMs, stop);
      if (answer.status === 200) {
        isTaken = this.#receive(answer);
      } else if (answer.status !== 204) {
        throw engine.refusal("poll", answer);
      } else if (run.clock.now() - startedAt < Math.min(waitMs, SHORT_WAIT_MS)) {
        await run.clock.sleep(SHORT_WAIT_MS, stop); // an engine that does not hold polls must not be hammered
      }
      return isTaken;
    } finally {
      if (!isTaken) run.slots.release();
    }
  }

  // The engine gives out what the last heartbeat named. When a type has reached its own limit it must not be named;
  // one that is full for a moment only is waited for instead, as each heartbeat costs more than a short task. When all
  // are full there is nothing to ask for.
  async #announceOpen(stop: AbortSignal): Promise<void> {
    const { host } = this;
    const { run } = host.engine;
    const by = run.clock.now() + SHORT_WAIT_MS;
    const isOpen = () => run.open().length > 0;
    while (host.isOverstated && !stop.aborted) {
      const leftMs = by - run.clock.now();
      if (!isOpen()) await this.#pollCommandsUntil(run.until(isOpen, Infinity, stop));
      else if (leftMs <= 0) return await host.heartbeat();
      else await run.changed.wait(leftMs, stop);
    }
  }

  // Takes in the answer to a poll. @returns whether a task began, and with it the slot was taken
  #receive({ text }: Answer): boolean {
    const { engine: { run, url }, tasks } = this.host;
    const value = parseJson(text);
    if (tasks.obey(value)) return false;
    const { data: task } = WireTask.safeParse(value);
    if (task === undefined) throw new ConnectionError(`${url} sent a task that cannot be read`);
    // Only with several engines: each had room for this type when its poll began. Not named as running, it goes back.
    if (!run.isOpen(task.type)) throw new ConnectionError(`${url} sent more than can be done now`);
    tasks.run(task);
    return true;
  }

  // A full worker does not poll for tasks, and would receive a cancel only by the next heartbeat.
  async #pollCommandsUntil(room: Promise<boolean>): Promise<boolean> {
    const found = new AbortController();
    const polling = this.#pollCommands(found.signal);
    const isFound = await room;
    found.abort();
    await polling;
    return isFound;
  }

  async #pollCommands(until: AbortSignal): Promise<void> {
    const { engine, tasks } = this.host;
    const { settings, clock, log } = engine.run;
    await clock.sleep(SHORT_WAIT_MS, until);
    while (!until.aborted && !this.host.hasSocket) {
      const startedAt = clock.now();
      const answer = await this.#next("&tasks=0", settings.TASK_POLL_TIMEOUT, until);
      if (answer.status === 0) {
        if (until.aborted) return;
        log("debug", "command_poll_failed", { error: engine.problem(answer) });
        await clock.sleep(jittered(settings.TASK_POLL_ERROR_DELAY), until);
      } else if (
        !(answer.status === 200 && tasks.obey(parseJson(answer.text))) &&
        clock.now() - startedAt < SHORT_WAIT_MS
      ) {
        await clock.sleep(PAUSE_MS, until);
      }
    }
  }

  #next(query: string, waitMs: number, signal: AbortSignal): Promise<Answer> {
    const { engine } = this.host;
    const path = `${engine.workerPath}/tasks/next?commands=1${query}&wait=${waitMs / 1000}`;
    return engine.send("GET", path, { timeoutMs: waitMs + TIMEOUT_MS, signal });
  }
}

/**
 * Keeps an engine served: registers, asks it for tasks while there is room for them, and for commands while there is none.
 *
 * @module
 */
import { parseJson } from "../model/json.ts";
import { WireTask } from "../model/wire.ts";
import { type Answer, ConnectionError, type EngineConnection } from "./connection.ts";
import { Backoff, jittered, type RunState } from "./run_state.ts";
import { runTask } from "./run_task.ts";
import { WorkerError } from "./settings.ts";

/** A worker that is full, or whose type is, for less than this does not bother the engine with it. */
const SHORT_WAIT_MS = 250;
/** Above this many results on their way no more tasks are taken. */
const MOST_UNDELIVERED = 200;
/** Polls at once while tasks come at once, which is within this. */
const MOST_POLLS = 4;
const AT_ONCE_MS = 20;
/** With fewer places than engines they take turns, so nobody may sit on one for longer. */
const SHARED_WAIT_MS = 1_000;
const FIRST_RETRY_MS = 100;
const TIMEOUT_MS = 5_000;
const PAUSE_MS = 1_000;

/** Keeps a worker busy with the tasks of one engine. */
export class Polls {
  readonly run: RunState;
  readonly #backoff: Backoff;
  /** Until then one poll at a time will do. */
  #singleUntil = 0;

  /** @param isTurn Whether this engine is the one to poll now. */
  constructor(readonly engine: EngineConnection, readonly isTurn: () => boolean) {
    this.run = engine.run;
    this.#backoff = new Backoff(FIRST_RETRY_MS, this.run.settings.errorDelayMs);
  }

  /**
   * Registers and polls until `stop`; begins again whenever the engine was away.
   *
   * @throws WorkerError when it refuses the first registration
   */
  async work(stop: AbortSignal): Promise<void> {
    const { engine, engine: { url }, run: { settings, log, clock } } = this;
    while (!stop.aborted) {
      try {
        log("debug", "registering", { engine: url });
        await engine.register(stop);
        log("info", "registered", { engine: url, worker: settings.id });
        await this.#poll(stop);
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        engine.lose();
        if (stop.aborted) return;
        if (!engine.isKnown && error.isFinal) throw new WorkerError(`The engine at ${error.message}.`);
        const delayMs = error.retryMs ?? this.#backoff.nextMs();
        log("warn", "engine_unavailable", { error: error.message, retry_in_ms: Math.round(delayMs) });
        await clock.sleep(delayMs, stop);
      }
    }
  }

  // Throws a ConnectionError when a poll was not answered as it should be.
  async #poll(stop: AbortSignal): Promise<void> {
    const { run, run: { settings, slots, clock } } = this;
    const isShort = settings.takesTurns && settings.engines.length > settings.maxTasks;
    const waitMs = isShort ? Math.min(SHARED_WAIT_MS, settings.pollMs) : settings.pollMs;
    run.log("info", "polling_started", { engine: this.engine.url });
    const others = new Set<Promise<void>>();
    try {
      while (!stop.aborted) {
        if (!this.isTurn() || run.undelivered >= MOST_UNDELIVERED) {
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
        this.#backoff.reset();
      }
    } finally {
      await Promise.all(others);
    }
  }

  // Tasks wait for workers: one poll after the other would spend its time on the way there and back.
  async #pollMore(stop: AbortSignal): Promise<void> {
    const { run } = this;
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
    const { run, engine } = this;
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
    const { run, engine } = this;
    const by = run.clock.now() + SHORT_WAIT_MS;
    const isOpen = () => run.open().length > 0;
    while (engine.isOverstated && !stop.aborted) {
      const leftMs = by - run.clock.now();
      if (!isOpen()) await this.#pollCommandsUntil(run.until(isOpen, Infinity, stop));
      else if (leftMs <= 0) return await engine.heartbeat();
      else await run.changed.wait(leftMs, stop);
    }
  }

  // Takes in the answer to a poll. @returns whether a task began, and with it the slot was taken
  #receive({ text }: Answer): boolean {
    const { run, engine, engine: { url } } = this;
    const value = parseJson(text);
    if (engine.obey(value)) return false;
    const { data: task } = WireTask.safeParse(value);
    if (task === undefined) throw new ConnectionError(`${url} sent a task that cannot be read`);
    // Only with several engines: each had room for this type when its poll began. Not named as running, it goes back.
    if (!run.isOpen(task.type)) throw new ConnectionError(`${url} sent more than can be done now`);
    runTask(engine, task);
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
    const { engine, run: { settings, clock, log } } = this;
    await clock.sleep(SHORT_WAIT_MS, until);
    while (!until.aborted && !engine.hasSocket) {
      const startedAt = clock.now();
      const answer = await this.#next("&tasks=0", settings.pollMs, until);
      if (answer.status === 0) {
        if (until.aborted) return;
        log("debug", "command_poll_failed", { error: answer.problem });
        await clock.sleep(jittered(settings.errorDelayMs), until);
      } else if (
        !(answer.status === 200 && engine.obey(parseJson(answer.text))) &&
        clock.now() - startedAt < SHORT_WAIT_MS
      ) {
        await clock.sleep(PAUSE_MS, until);
      }
    }
  }

  #next(query: string, waitMs: number, signal: AbortSignal): Promise<Answer> {
    const path = `${this.engine.workerPath}/tasks/next?commands=1${query}&wait=${waitMs / 1000}`;
    return this.engine.send("GET", path, { timeoutMs: waitMs + TIMEOUT_MS, signal });
  }
}

/**
 * A blueprint: the states of a kind of job, the handler of each, and where each may go, as plain data. It is checked
 * when an engine takes it in, and drawn from that data.
 *
 * @example
 * ```ts
 * import { StateMachineBlueprint } from "../mod.ts";
 *
 * const flow = new StateMachineBlueprint({ name: "greet", apiEndpoint: "/jobs/greet", apiVersion: "v1" });
 * flow.handlerFor("start", { isStart: true, to: { success: "done", failure: "failed" } }, ({ initialData, actions }) =>
 *   actions.dispatchTask({ taskType: "greeting", params: { name: initialData.name ?? "you" } }));
 * flow.handlerFor("done", { isEnd: true });
 * flow.handlerFor("failed", { isEnd: true });
 * ```
 *
 * @module
 */
import { UserError } from "../../config/errors.ts";
import type { JsonObject, JsonValue, Requirements, Strategy, Trace, Transitions } from "./job.ts";

/** A task as handlers describe it. Times are seconds. */
export interface TaskRequest {
  taskType: string;
  params?: JsonObject;
  /** Which of the polling workers gets it; default `default`: those with the type in their hot cache, then the cheapest. */
  dispatchStrategy?: Strategy;
  resourceRequirements?: Requirements;
  /** From pick-up to result; default the engine's WORKER_TIMEOUT_SECONDS. */
  timeoutSeconds?: number;
  /** From queueing to pick-up; default: no limit. */
  queueTimeoutSeconds?: number;
  /** Highest price a second. */
  maxCost?: number;
  /** Let workers pass `maxCost` that name no price. */
  unknownCostPasses?: boolean;
  /** Higher goes first; default 0. */
  priority?: number;
}

/** Makers of actions: they only say what is wanted. `transitions` default to the state's `to`. */
export const ACTIONS = Object.freeze({
  transitionTo: (state: string) => ({ kind: "transition" as const, to: state }),
  /** The same as `transitionTo`. */
  goTo: (state: string) => ({ kind: "transition" as const, to: state }),
  dispatchTask: (request: TaskRequest & { transitions?: Transitions }) => (
    { ...request, kind: "task" as const }
  ),
  /** Runs all tasks side by side, then goes to `aggregateInto`, whose handler sees `aggregationResults`. */
  dispatchParallel: (request: { tasks: readonly TaskRequest[]; aggregateInto: string }) => (
    { ...request, kind: "parallel" as const }
  ),
  awaitHumanApproval: (request: { message: string; integration?: string; transitions?: Transitions }) => (
    { ...request, kind: "approval" as const }
  ),
  /** Runs another blueprint as a sub-job; outcomes are `success` and `failure`. */
  runBlueprint: (
    request: { blueprintName: string; initialData?: JsonObject; transitions?: Transitions },
  ) => ({ ...request, kind: "sub_blueprint" as const }),
});

export type Actions = typeof ACTIONS;

/** What a handler asks for next. Made by the `actions` it is given. */
export type Action = ReturnType<Actions[keyof Actions]>;

/** A key-value store shared by all jobs of a blueprint, kept in the engine's storage. */
export interface DataStore {
  get(key: string): Promise<JsonValue | undefined>;
  set(key: string, value: JsonValue): Promise<void>;
}

/** What a handler sees. `stateHistory` may be written to; what is in it when the handler ends is stored. */
export interface HandlerContext {
  readonly jobId: string;
  readonly currentState: string;
  readonly initialData: JsonObject;
  readonly stateHistory: JsonObject;
  readonly client: { readonly name: string; readonly plan: string; readonly params: JsonObject };
  readonly actions: Actions;
  readonly dataStores: Readonly<Record<string, DataStore>>;
  readonly tracingContext: Trace;
  /** Results of the parallel step that led here, by task id; empty elsewhere. */
  readonly aggregationResults: Readonly<Record<string, JsonObject>>;
  /** Aborted when the job is cancelled or the handler has run out of time. */
  readonly signal: AbortSignal;
}

/** The code of a state: looks, perhaps awaits, returns one action. End states return nothing. */
export type Handler = (context: HandlerContext) => Action | void | Promise<Action | void>;

/** When a conditional handler applies: a function, or a text such as `"initial_data.amount > 100"`. */
export type Condition = string | ((context: HandlerContext) => boolean);

export interface StateOptions {
  isStart?: boolean;
  isEnd?: boolean;
  /**
   * Where the state may go, by outcome (`{ success: "done" }`) or as a list. Declared, it is the default of an action's
   * `transitions`, and an action that leads elsewhere is an error. A state without it may go anywhere.
   */
  to?: Transitions | readonly string[];
  /** Entered from outside the graph (by `transitionTo` from nowhere): not reported as unreachable. */
  unreachable?: boolean;
  /** The handler applies only then; conditional handlers are tried in their order before the plain one. */
  when?: Condition;
}

export interface State {
  name: string;
  isStart: boolean;
  isEnd: boolean;
  unreachable: boolean;
  /** Declared ways out, outcome to state (a list's members are their own outcomes); undefined: not declared. */
  to?: Transitions;
  handler?: Handler;
  conditional: { matches: (context: HandlerContext) => boolean; handler: Handler }[];
}

interface Edge {
  from: string;
  to: string;
  label: string;
}

/** A blueprint that cannot be taken in; the message says all that is wrong with it. */
export class BlueprintError extends UserError {
  override name = "BlueprintError";
}

/** States that exist in every blueprint, as ends, whether it names them or not. */
const KNOWN_ENDS: readonly string[] = ["finished", "failed", "error", "quarantined"];

/** Names a state that ends a job badly. */
export function endsBadly(state: string): boolean {
  return state === "failed" || state === "error" || state === "quarantined";
}

/** A kind of job. */
export class StateMachineBlueprint {
  readonly name: string;
  /** Path below `/api/{version}` that takes submissions; undefined: only for sub-jobs and schedules. */
  readonly apiEndpoint?: string;
  /** `v1`; undefined: mounted at `/api` itself. */
  readonly apiVersion?: string;
  readonly states = new Map<string, State>();
  /** Initial values of its data stores. */
  readonly dataStores = new Map<string, JsonObject>();
  /** Arrows seen at run time from states that declare no ways out. */
  readonly #seen = new Map<string, Edge>();

  /** @throws BlueprintError when the name or endpoint cannot be used. */
  constructor(options: { name: string; apiEndpoint?: string; apiVersion?: string }) {
    if (!/^[\w.-]{1,100}$/.test(options.name)) {
      throw new BlueprintError(
        `A blueprint cannot be named "${options.name}"; use letters, digits, "_", "-" and ".".`,
      );
    }
    this.name = options.name;
    if (options.apiEndpoint) this.apiEndpoint = "/" + options.apiEndpoint.replace(/^\/+|\/+$/g, "");
    if (options.apiVersion) this.apiVersion = options.apiVersion;
  }

  /** Adds the handler of a state. An end state needs none. @throws BlueprintError for a second plain handler. */
  handlerFor(state: string, options: StateOptions, handler?: Handler): this;
  handlerFor(state: string, handler: Handler): this;
  handlerFor(state: string, second: StateOptions | Handler, third?: Handler): this {
    return this.#add(state, second, third);
  }

  /** Adds the handler of a state that a parallel step leads to; it sees `aggregationResults`. */
  aggregatorFor(state: string, second: StateOptions | Handler, third?: Handler): this {
    return this.#add(state, second, third);
  }

  /** `handlerFor` where the options follow from the name: `init` is the start, `completed` and `failed` are ends. */
  state(name: string, second: StateOptions | Handler = {}, third?: Handler): this {
    const isEnd = name === "completed" || name === "failed";
    return this.#add(name, second, third, { isStart: name === "init", isEnd });
  }

  /** Adds a key-value store that handlers reach as `dataStores[name]`. */
  addDataStore(name: string, initial: JsonObject = {}): this {
    this.dataStores.set(name, initial);
    return this;
  }

  #add(
    name: string,
    second: StateOptions | Handler,
    third: Handler | undefined,
    more: StateOptions = {},
  ): this {
    const [given, handler] = typeof second === "function" ? [{}, second] : [second, third];
    const { isStart = false, isEnd = false, unreachable = false, to, when } = { ...more, ...given };
    const state = this.states.getOrInsert(name, { name, isStart, isEnd, unreachable, conditional: [] });
    state.isStart ||= isStart;
    state.isEnd ||= isEnd;
    state.unreachable ||= unreachable;
    if (to !== undefined) {
      const ways = Array.isArray(to) ? Object.fromEntries(to.map((end) => [end, end])) : to;
      state.to = { ...state.to, ...ways };
    }
    if (when !== undefined) {
      if (handler === undefined) {
        throw new BlueprintError(
          `State "${name}" of blueprint "${this.name}" has a "when" without a handler.`,
        );
      }
      const matches = typeof when === "function" ? when : parseCondition(when);
      state.conditional.push({ matches, handler });
    } else if (handler !== undefined) {
      if (state.handler !== undefined) {
        throw new BlueprintError(
          `State "${name}" of blueprint "${this.name}" has two handlers; give all but one a "when".`,
        );
      }
      state.handler = handler;
    }
    return this;
  }

  /** The start state's name. @throws BlueprintError when there is not exactly one. */
  get start(): string {
    const [start, ...others] = [...this.states.values()].filter((state) => state.isStart);
    if (start === undefined || others.length > 0) throw new BlueprintError(checkBlueprint(this).join(" "));
    return start.name;
  }

  /** Whether a job may be in this state. */
  has(state: string): boolean {
    return this.states.has(state) || KNOWN_ENDS.includes(state);
  }

  /** Whether a job ends in this state. */
  ends(state: string): boolean {
    return this.states.get(state)?.isEnd ?? KNOWN_ENDS.includes(state);
  }

  /** Notes an arrow that a handler without declared ways out has taken, for the drawing. */
  noteEdge(from: string, to: string, label: string): void {
    if (this.states.get(from)?.to !== undefined) return;
    this.#seen.set(`${from}\n${label}\n${to}`, { from, to, label });
  }

  /** All arrows that are known: declared ones, and those seen at run time. */
  edges(): Edge[] {
    const declared = [...this.states.values()].flatMap((state) =>
      Object.entries(state.to ?? {}).map(([label, to]) => ({ from: state.name, to, label }))
    );
    return [...declared, ...this.#seen.values()];
  }

  /** The graph in Graphviz' language. */
  toDot(): string {
    const { states, ways } = this.#drawn();
    return [
      "digraph {",
      `  label=${quoted(this.name)}`,
      "  node [shape=box style=rounded]",
      ...states.map(({ name, role }) => `  ${quoted(name)}${DOT_MARKS[role]}`),
      ...ways.map(({ from, to, text }) => `  ${quoted(from)} -> ${quoted(to)} [label=${quoted(text)}]`),
      "}",
      "",
    ].join("\n");
  }

  /** The graph in Mermaid's language. */
  toMermaid(): string {
    const { states, ways } = this.#drawn();
    const id = (wanted: string) => `s${states.findIndex(({ name }) => name === wanted)}`;
    const quote = (text: string) => `"${text.replaceAll('"', "#quot;")}"`;
    return [
      "flowchart TD",
      ...states.map(({ name, role }) => `  ${id(name)}${MERMAID_BRACKETS[role].join(quote(name))}`),
      ...ways.map(({ from, to, text }) => `  ${id(from)} -->|${quote(text)}| ${id(to)}`),
      "",
    ].join("\n");
  }

  #drawn() {
    const edges = this.edges();
    const names = new Set([...this.states.keys(), ...edges.flatMap(({ from, to }) => [from, to])]);
    const states = Array.from(names, (name) => {
      const inner = this.ends(name) ? "end" as const : "inner" as const;
      return { name, role: this.states.get(name)?.isStart ? "start" as const : inner };
    });
    // An outcome named like its target is a direct transition; anything else is what happened to a task or question.
    const ways = edges.map(({ from, to, label }) => (
      { from, to, text: label === to || label === "transition" ? "transition" : `on ${label}` }
    ));
    return { states, ways };
  }
}

const DOT_MARKS = { start: " [penwidth=2]", inner: "", end: " [peripheries=2]" };
const MERMAID_BRACKETS = { start: ["([", "])"], inner: ["(", ")"], end: ["[[", "]]"] };

function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** Everything that is wrong with a blueprint, as sentences; empty when it can run. */
export function checkBlueprint(blueprint: StateMachineBlueprint): string[] {
  const faults: string[] = [];
  const states = [...blueprint.states.values()];
  const starts = states.filter((state) => state.isStart).map((state) => state.name);
  if (starts.length === 0) faults.push(`has no start state; give one state "isStart: true".`);
  if (starts.length > 1) faults.push(`has ${starts.length} start states (${starts.join(", ")}); keep one.`);
  for (const state of states) {
    for (const [label, to] of Object.entries(state.to ?? {})) {
      if (!blueprint.has(to)) {
        faults.push(`leads from "${state.name}" on "${label}" to "${to}", which is not one of its states.`);
      }
    }
    if (state.isEnd && Object.keys(state.to ?? {}).length > 0) {
      faults.push(`has the end state "${state.name}" with ways out; take away its "to" or its "isEnd".`);
    }
    if (state.isEnd && state.isStart) {
      faults.push(`has "${state.name}" as both start and end; use two states.`);
    }
    if (!state.isEnd && state.handler === undefined && state.conditional.length === 0) {
      faults.push(`has the state "${state.name}" without a handler; add one, or "isEnd: true".`);
    }
  }
  // A state that does not declare its ways out may go anywhere, so only complete declarations can prove this.
  const isOpen = states.some((state) => !state.isEnd && state.to === undefined);
  if (!isOpen && starts.length === 1) {
    const reached = new Set(starts);
    for (const name of reached) {
      for (const to of Object.values(blueprint.states.get(name)?.to ?? {})) reached.add(to);
    }
    for (const state of states) {
      if (!reached.has(state.name) && !state.unreachable) {
        faults.push(`never reaches "${state.name}"; lead to it, or give it "unreachable: true".`);
      }
    }
  }
  return faults.map((fault) => `Blueprint "${blueprint.name}" ${fault}`);
}

const AREAS = ["initialData", "stateHistory", "client", "aggregationResults", "tracingContext"] as const;

/**
 * Reads a condition such as `context.initial_data.amount > 100` (the `context.` may be left out). A missing field or
 * one of another type does not match.
 *
 * @throws BlueprintError when the text is none.
 */
export function parseCondition(text: string): (context: HandlerContext) => boolean {
  const [, areaName = "", field = "", operator = "", word = ""] =
    /^\s*(?:context\.)?(\w+)\.([\w-]+)\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*$/.exec(text) ?? [];
  const camelName = areaName.replaceAll(/_[a-z]/g, (part) => part.slice(1).toUpperCase());
  const area = AREAS.find((name) => name === camelName);
  if (area === undefined) {
    throw new BlueprintError(
      `Cannot read the condition "${text}"; write one like "initial_data.amount > 100" ` +
        `with initial_data, state_history or client and one of == != > < >= <=.`,
    );
  }
  const bare = /^(["'])(.*)\1$/.exec(word)?.[2] ?? word;
  const number = bare.trim() === "" ? NaN : Number(bare);
  const wanted = Number.isNaN(number) ? bare : number;
  return (context) => {
    const object: Readonly<Record<string, unknown>> = { ...context[area] };
    const value = Object.hasOwn(object, field) ? object[field] : undefined;
    if (value === undefined) return false;
    const found = typeof value === "boolean"
      ? (typeof wanted === "number" ? Number(value) : String(value))
      : value;
    if (operator === "==") return found === wanted;
    if (operator === "!=") return found !== wanted;
    if (typeof found === "number" && typeof wanted === "number") return ordered(operator, found - wanted);
    if (typeof found === "string" && typeof wanted === "string") {
      return ordered(operator, found < wanted ? -1 : found > wanted ? 1 : 0);
    }
    return false;
  };
}

function ordered(operator: string, difference: number): boolean {
  if (operator === ">") return difference > 0;
  if (operator === "<") return difference < 0;
  return operator === ">=" ? difference >= 0 : difference <= 0;
}

/**
 * Measures this orchestrator beside its peers on the same trivial children, in one run. `README.md` beside this file
 * explains each figure and how the peers get the same orders.
 *
 *     deno task bench                          everything
 *     deno task bench start idle --rounds 3    only these; see MEASURES for the names
 *
 * `ORCHESTRATOR_BIN` names a compiled binary to be measured too. Linux only: it reads /proc.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { parseArgs } from "@std/cli/parse-args";

// ------------------------------------------------------------------------------------------------------------------
// 1. Processes
// Whatever this program starts carries its mark, so that all of it can be found again, in whatever session it is.

const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
const TEMP = Deno.makeTempDirSync({ prefix: "bench-" });
const MARK = "SUPERVISE_BENCH";
const encoder = new TextEncoder();

/** How long a runner may take to do its part until it is killed and its figure is missing. */
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 15_000;
const LINES_LIMIT_MS = 180_000;

/** A runner did not do what was measured; the message says what. */
class Unable extends Error {}

/** The processes whose mark begins with `mark`. Zombies have none. */
function marked(mark: string): number[] {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (/^[0-9]+$/.test(name) && readProc(`${name}/environ`).includes(`${MARK}=${mark}`)) {
      found.push(Number(name));
    }
  }
  return found;
}

/** A file of /proc, or nothing when its process is gone or not ours. */
function readProc(path: string): string {
  try {
    return Deno.readTextFileSync(`/proc/${path}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return "";
    if (error instanceof Error && /os error 3\b/.test(error.message)) return ""; // it ended while being read
    throw error;
  }
}

function killAll(mark: string): number {
  const found = marked(mark);
  for (const pid of found) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it ended by itself
    }
  }
  return found.length;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

let runs = 0;

/** A program under measurement: its output is in a file, and nothing of it survives it. */
class Run implements AsyncDisposable {
  /** Moment of `performance.now()` just before it was started. */
  readonly startedAt: number;
  readonly output: string;
  readonly mark = `${TEMP}#${++runs};`;
  readonly #child: Deno.ChildProcess;
  #over = false;

  constructor(line: readonly string[], folder: string) {
    this.output = `${folder}/output`;
    this.startedAt = performance.now();
    // The shell makes the redirection and is replaced: everyone has it before them.
    this.#child = new Deno.Command("/bin/sh", {
      args: ["-c", 'out=$1; shift; exec "$@" > "$out" 2>&1', "sh", this.output, ...line],
      env: { NO_COLOR: "1", CI: "true", [MARK]: this.mark },
      cwd: folder,
      detached: true, // Ctrl+C is for this program alone, which then cleans up
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child.status.then(() => this.#over = true);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Waits for something, looking every millisecond. @returns milliseconds from `since` until it was seen */
  async until(
    what: string,
    check: () => boolean,
    { since = this.startedAt, limitMs = START_LIMIT_MS } = {},
  ): Promise<number> {
    const beganAt = performance.now();
    while (!check()) {
      if (this.#over) throw this.#unable(`ended before ${what}`);
      if (performance.now() - beganAt > limitMs) {
        throw this.#unable(`no sign within ${limitMs / 1_000} s that ${what}`);
      }
      await pause(1);
    }
    return performance.now() - since;
  }

  /** Waits for the end of the program. @returns milliseconds from now */
  async ended(limitMs: number): Promise<number> {
    const beganAt = performance.now();
    const limit = new AbortController();
    const late = setTimeout(() => limit.abort(), limitMs);
    await Promise.race([
      this.#child.status,
      new Promise((resolve) => limit.signal.addEventListener("abort", resolve)),
    ]);
    clearTimeout(late);
    if (limit.signal.aborted) throw this.#unable(`did not end within ${limitMs / 1_000} s`);
    return performance.now() - beganAt;
  }

  /** Asks the program to stop, as Ctrl+C would. @returns milliseconds until it had ended, and what it left running */
  async stop(): Promise<{ tookMs: number; left: number }> {
    Deno.kill(this.pid, "SIGINT");
    const tookMs = await this.ended(STOP_LIMIT_MS);
    return { tookMs, left: marked(this.mark).length };
  }

  /** Its processes other than itself and the services. */
  helpers(): number[] {
    return marked(this.mark).filter((pid) =>
      pid !== this.pid && !/sleep.1000\0/.test(readProc(`${pid}/cmdline`))
    );
  }

  #unable(what: string): Unable {
    return new Unable(`${what}; it printed last:\n${Deno.readTextFileSync(this.output).slice(-500)}`);
  }

  async [Symbol.asyncDispose]() {
    for (let tries = 0; killAll(this.mark) > 0 && tries < 100; tries++) await pause(20);
    await this.#child.status;
  }
}

/** The processor time in milliseconds that each thread of a process has had, and how often it woke up. */
type Usage = Map<string, { cpuMs: number; wakes: number }>;

function usage(pid: number): Usage {
  const threads: Usage = new Map();
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const status = readProc(`${pid}/task/${name}/status`);
    threads.set(name, {
      cpuMs: Number(readProc(`${pid}/task/${name}/schedstat`).split(" ")[0]) / 1e6,
      wakes: Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? 0),
    });
  }
  return threads;
}

/** What the threads that live now have used since. */
function usedSince(before: Usage, pid: number): { cpuMs: number; wakes: number } {
  let [cpuMs, wakes] = [0, 0];
  for (const [thread, now] of usage(pid)) {
    cpuMs += now.cpuMs - (before.get(thread)?.cpuMs ?? 0);
    wakes += now.wakes - (before.get(thread)?.wakes ?? 0);
  }
  return { cpuMs, wakes };
}

/** Resident memory in MiB. */
function memory(pids: readonly number[]): number {
  const kib = pids.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readProc(`${pid}/status`))?.[1] ?? 0));
  return kib.reduce((sum, each) => sum + each, 0) / 1024;
}

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0; // not written yet
    throw error;
  }
}

// ------------------------------------------------------------------------------------------------------------------
// 2. Runners
// Programs that run several commands side by side, each given the same orders in its own words.

/** What a runner shall run. */
interface Job {
  /** Shell commands, one a service. */
  commands: readonly string[];
  /** Whether the failure of one ends all. */
  endsAll?: boolean;
  /** Fields of every service in our own file. */
  fields?: Readonly<Record<string, unknown>>;
}

interface Runner {
  name: string;
  /** `floor`: what any program of this runtime pays. */
  role: "ours" | "floor" | "peer";
  /** Writes what it needs into `folder`. @returns the command line that does the job */
  prepare(job: Job, folder: string): string[];
}

const PEERS = { concurrently: "10.0.7", foreman: "3.0.1" };

/** Does nothing but spawn the same children in the same way, and end them when it is asked to. */
const MINIMAL = `
const { services } = JSON.parse(Deno.readTextFileSync(Deno.args[0]));
const children = services.map(({ command: [program, ...args] }) =>
  new Deno.Command(program, { args, detached: true, stdin: "null", stdout: "piped", stderr: "piped" }).spawn()
);
Deno.addSignalListener("SIGINT", () => children.forEach((child) => Deno.kill(-child.pid, "SIGTERM")));
await Promise.all(children.map((child) => child.status));
Deno.exit(0);
`;

function writeServices({ commands, fields }: Job, folder: string): string {
  const services = commands.map((command, index) => ({
    name: `s${index}`,
    command: ["/bin/sh", "-c", command],
    ...fields,
  }));
  const path = `${folder}/services.json`;
  Deno.writeTextFileSync(path, JSON.stringify({ services }));
  return path;
}

function writeProcfile({ commands }: Job, folder: string): string {
  const path = `${folder}/Procfile`;
  Deno.writeTextFileSync(path, commands.map((command, index) => `s${index}: ${command}\n`).join(""));
  Deno.writeTextFileSync(`${folder}/.env`, "");
  return path;
}

function ours(name: string, program: readonly string[]): Runner {
  return {
    name,
    role: "ours",
    prepare(job, folder) {
      writeServices(job, folder);
      Deno.writeTextFileSync(`${folder}/.env`, "");
      return [...program, "--no-dashboard", "--infrastructure", folder];
    },
  };
}

function floor(name: string, program: readonly string[]): Runner {
  return { name, role: "floor", prepare: (job, folder) => [...program, writeServices(job, folder)] };
}

async function output(program: string, args: readonly string[]): Promise<string | null> {
  try {
    const options = { args: [...args], env: { [MARK]: `${TEMP}#setup;` }, stdin: "null" as const };
    const { success, stdout } = await new Deno.Command(program, options).output();
    return success ? new TextDecoder().decode(stdout).trim() : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

async function findRunners(): Promise<Runner[]> {
  const minimal = `${TEMP}/minimal.js`;
  await Deno.writeTextFile(minimal, MINIMAL);
  const deno = [Deno.execPath(), "run", "-A"];
  const found = [
    ours("orchestrator (deno run)", [...deno, `${ROOT}/orchestrator.ts`]),
    floor("minimal Deno program", [...deno, minimal]),
  ];
  const binary = Deno.env.get("ORCHESTRATOR_BIN");
  if (binary !== undefined) {
    found.push(ours("orchestrator (binary)", [binary]));
    const compiler = Deno.env.get("DENO_FOR_COMPILE") ?? Deno.execPath();
    const args = ["compile", "-A", "--no-check", "--output", `${TEMP}/minimal`, minimal];
    if (await output(compiler, args) !== null) {
      found.push(floor("minimal program (binary)", [`${TEMP}/minimal`]));
    }
  }

  const packages = Object.entries(PEERS).map(([name, version]) => `${name}@${version}`);
  if (await output("npm", ["install", "--silent", "--prefix", TEMP, ...packages]) === null) {
    progress("npm could not install the peers: they are left out");
  } else {
    const bin = (name: string) => ["node", `${TEMP}/node_modules/.bin/${name}`];
    found.push({
      name: `concurrently ${PEERS.concurrently}`,
      role: "peer",
      prepare: ({ commands, endsAll }) => [
        ...bin("concurrently"),
        ...(endsAll ? ["--kill-others-on-fail"] : []),
        ...commands,
      ],
    }, {
      name: `foreman ${PEERS.foreman}`,
      role: "peer",
      prepare: (job, folder) => [
        ...bin("nf"),
        "--procfile",
        writeProcfile(job, folder),
        "--env",
        `${folder}/.env`,
        "start",
      ],
    });
  }
  // The interpreter itself: what stands on PATH may be a slow shell script that chooses one.
  const python = await output("python3", [
    "-c",
    "import honcho, sys; print(sys.executable, honcho.__version__)",
  ]);
  if (python !== null) {
    const [program, version] = python.split(" ");
    found.push({
      name: `honcho ${version}`,
      role: "peer",
      prepare: (job, folder) => [
        program!,
        "-m",
        "honcho",
        "--no-colour",
        "--procfile",
        writeProcfile(job, folder),
        "start",
      ],
    });
  }
  return found;
}

// ------------------------------------------------------------------------------------------------------------------
// 3. Figures and tables

type Row = { name: string; cells: string[] };

/** What was measured of each runner, by runner and column. */
class Figures {
  readonly #values = new Map<string, number[]>();
  readonly #faults = new Map<string, string>();

  add(runner: Runner, column: string, value: number): void {
    const key = `${runner.name}\n${column}`;
    this.#values.set(key, [...this.#values.get(key) ?? [], value]);
  }

  /** Measures one thing; what a runner can't do shows in its place, and is not tried again. */
  async attempt(runner: Runner, columns: readonly string[], measure: () => Promise<void>): Promise<void> {
    if (columns.every((column) => this.#faults.has(`${runner.name}\n${column}`))) return;
    try {
      await measure();
    } catch (error) {
      if (!(error instanceof Unable)) throw error;
      progress(`${runner.name}: ${error.message}`);
      for (const column of columns) {
        this.#faults.set(`${runner.name}\n${column}`, error.message.split(";")[0]!);
      }
    }
  }

  of(runner: Runner, column: string): readonly number[] {
    return this.#values.get(`${runner.name}\n${column}`) ?? [];
  }

  /** A figure in words, or why there is none. */
  cell(runner: Runner, column: string, words: (values: readonly number[]) => string): string {
    const values = this.of(runner, column);
    const fault = this.#faults.get(`${runner.name}\n${column}`);
    return fault ?? (values.length === 0 ? "-" : words(values));
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

const wholeMs = (values: readonly number[]) => `${median(values).toFixed(0)} ms`;
const finerMs = (values: readonly number[]) => `${median(values).toFixed(1)} ms`;
const worstMs = (values: readonly number[]) => `${Math.max(...values).toFixed(1)} ms`;
const mib = (values: readonly number[]) => `${median(values).toFixed(1)} MiB`;

function table(title: string, headings: readonly string[], rows: readonly Row[]): string {
  const all = [["", ...headings], ...rows.map(({ name, cells }) => [name, ...cells])];
  const widths = all[0]!.map((_, column) => Math.max(3, ...all.map((row) => row[column]!.length)));
  const lines = all.map((row) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`
  );
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return `\n${title}\n\n${[lines[0], rule, ...lines.slice(1)].join("\n")}`;
}

const terminal = Deno.stderr.isTerminal();

/** Says on stderr what is being done. */
function progress(text: string): void {
  Deno.stderr.writeSync(encoder.encode(terminal ? `\r\x1b[K${text}` : `${text}\n`));
}

// ------------------------------------------------------------------------------------------------------------------
// 4. Measures
// Each goes round by round through all runners, so that what disturbs the machine disturbs everyone.

/** How often something is measured, unless `--rounds` says so. */
type Rounds = (usual: number) => number;
type Measure = (all: readonly Runner[], rounds: Rounds) => Promise<string>;

/** A folder of a runner's own for one measure, where it finds again what it kept of its last run. */
function folderOf(runner: Runner, measure: string): string {
  const folder = `${TEMP}/${measure}/${runner.name.replaceAll(/[^a-z0-9.]+/g, "-")}`;
  Deno.mkdirSync(folder, { recursive: true });
  return folder;
}

/** From the last child running to the order to stop: some can't be stopped before they know all they started. */
const SETTLE_MS = 2_000;

/** From the program's own start to the last child running, and from SIGINT to its end. */
async function measureStart(
  all: readonly Runner[],
  counts: readonly (readonly [count: number, rounds: number])[],
): Promise<Figures> {
  const figures = new Figures();
  for (const [count, rounds] of counts) {
    const jobs = all.map((runner) => {
      const folder = folderOf(runner, `start-${count}`);
      const commands = Array.from({ length: count }, () => `echo >> ${folder}/up; exec sleep 1000`);
      return { runner, folder, line: runner.prepare({ commands }, folder) };
    });
    for (let round = 0; round <= rounds; round++) { // the first one warms up and does not count
      for (const { runner, folder, line } of jobs) {
        progress(`start ${count}, round ${round} of ${rounds}: ${runner.name}`);
        await figures.attempt(runner, [`start ${count}`], async () => {
          await Deno.writeTextFile(`${folder}/up`, "");
          await using run = new Run(line, folder);
          const startedMs = await run.until("all ran", () => sizeOf(`${folder}/up`) === count);
          if (round > 0) figures.add(runner, `start ${count}`, startedMs);
          await pause(SETTLE_MS);
          if (round > 0) {
            figures.add(runner, `memory ${count}`, memory([run.pid]));
            figures.add(runner, `helpers ${count}`, memory(run.helpers()));
          }
          await figures.attempt(runner, [`stop ${count}`], async () => {
            const { tookMs, left } = await run.stop();
            if (round === 0) return;
            figures.add(runner, `stop ${count}`, tookMs);
            figures.add(runner, `left ${count}`, left);
          });
        });
      }
    }
  }
  return figures;
}

const startAndStop: Measure = async (all, rounds) => {
  const counts = [[3, rounds(15)], [50, rounds(7)], [500, rounds(3)]] as const;
  const figures = await measureStart(all, counts);
  const rows = all.map((runner) => {
    // What a binary pays is measured by a binary.
    const floors = all.filter(({ role }) => role === "floor");
    const least = floors.find(({ name }) => name.includes("binary") === runner.name.includes("binary"));
    const cells = counts.flatMap(([count]) => {
      const start = figures.cell(runner, `start ${count}`, (values) => {
        const compared = least === undefined ? [] : figures.of(least, `start ${count}`);
        const ratio = runner.role !== "ours" || compared.length === 0
          ? ""
          : ` (${(median(values) / median(compared)).toFixed(2)}x)`;
        return wholeMs(values) + ratio;
      });
      const left = Math.max(0, ...figures.of(runner, `left ${count}`));
      return [
        start,
        figures.cell(runner, `stop ${count}`, wholeMs) + (left > 0 ? ` (${left} left running)` : ""),
      ];
    });
    return { name: runner.name, cells };
  });
  const headings = counts.flatMap(([count]) => [`start ${count}`, `stop ${count}`]);
  return table(
    "From the program's start to its last child running; from SIGINT to its end (medians)",
    headings,
    rows,
  );
};

const manyServices: Measure = async (all, rounds) => {
  const own = all.filter(({ role }) => role === "ours");
  const figures = await measureStart(own, [[200, rounds(5)]]);
  const rows = own.map((runner) => ({
    name: runner.name,
    cells: [
      figures.cell(runner, "start 200", wholeMs),
      figures.cell(runner, "stop 200", wholeMs),
      figures.cell(runner, "memory 200", mib),
      figures.cell(runner, "helpers 200", mib),
    ],
  }));
  return table("200 services (medians)", ["start", "stop", "memory", "of its guard"], rows);
};

const LINES = 1_000_000;
const PAYLOAD = 99; // and a newline

/** Lines of 100 bytes from children that write as fast as the system lets them, into a file. */
const lines: Measure = async (all, rounds) => {
  const figures = new Figures();
  const runners = all.filter(({ role }) => role !== "floor");
  const faults = new Map<Runner, Set<string>>();
  for (const child of [1, 2, 3, 4]) {
    const made = await new Deno.Command("/bin/sh", {
      args: ["-c", `seq -f '${child}%098.0f' 1 ${LINES} > ${TEMP}/lines${child}`],
    }).output();
    if (!made.success) throw new Error("seq could not make the lines");
  }
  const total = rounds(3);
  for (const children of [1, 4]) {
    for (let round = 1; round <= total; round++) {
      for (const runner of runners) {
        progress(`lines of ${children}, round ${round} of ${total}: ${runner.name}`);
        const folder = folderOf(runner, `lines-${children}`);
        await figures.attempt(runner, [`${children}`], async () => {
          // Some end all when one ends, so nobody ends before all have written.
          await Deno.remove(`${folder}/go`).catch(() => {});
          await Deno.writeTextFile(`${folder}/up`, "");
          await output("mkfifo", [`${folder}/go`]);
          using go = await Deno.open(`${folder}/go`, { read: true, write: true });
          const commands = Array.from(
            { length: children },
            (_, index) => `cat ${TEMP}/lines${index + 1}; echo >> ${folder}/up; read go < ${folder}/go`,
          );
          await using run = new Run(runner.prepare({ commands }, folder), folder);
          await run.until("all was written", () => sizeOf(`${folder}/up`) === children, {
            limitMs: LINES_LIMIT_MS,
          });
          go.writeSync(encoder.encode("go\n".repeat(children)));
          await run.ended(LINES_LIMIT_MS);
          figures.add(runner, `${children}`, children * LINES / (performance.now() - run.startedAt));
          progress(`lines of ${children}, comparing: ${runner.name}`);
          const fault = await checkLines(run.output, children);
          if (fault !== null) {
            faults.set(runner, (faults.get(runner) ?? new Set()).add(`${children}: ${fault}`));
          }
          await Deno.remove(run.output);
        });
      }
    }
  }
  for (const child of [1, 2, 3, 4]) await Deno.remove(`${TEMP}/lines${child}`);
  const perMs = (values: readonly number[]) => `${median(values).toFixed(0)} lines/ms`;
  const rows = runners.map((runner) => ({
    name: runner.name,
    cells: [
      figures.cell(runner, "1", perMs),
      figures.cell(runner, "4", perMs),
      [...faults.get(runner) ?? ["none"]].join("; "),
    ],
  }));
  const title = `${
    LINES.toLocaleString("en")
  } lines of 100 bytes a child, into a file, start and end included (medians)`;
  return table(title, ["1 child", "4 children", "lost or torn"], rows);
};

/** Whether every line of every child arrived whole, once and in order behind whatever a runner puts before it. */
async function checkLines(path: string, children: number): Promise<string | null> {
  // The line that each child's next one has to be, counted up in place.
  const expected = Array.from({ length: children }, (_, child) => {
    const line = new Uint8Array(PAYLOAD).fill(48);
    line[0] = 49 + child;
    return line;
  });
  const next = expected.map(() => 1);
  let [torn, misplaced] = [0, 0];
  const numberOf = (line: Uint8Array) => Number(new TextDecoder().decode(line.subarray(-10)));
  const setNext = (child: number, number: number) => {
    next[child] = number;
    const digits = encoder.encode(String(number).padStart(10, "0"));
    expected[child]!.set(digits, PAYLOAD - 10);
  };
  const countUp = (child: number) => {
    next[child]!++;
    const line = expected[child];
    let at = PAYLOAD - 1;
    for (; line![at] === 57; at--) line![at] = 48;
    line![at]!++;
  };
  for (let child = 0; child < children; child++) countUp(child), next[child] = 1;

  const isDigit = (byte: number | undefined) => byte !== undefined && byte >= 48 && byte <= 57;
  function take(line: Uint8Array): void {
    const payload = line.subarray(Math.max(0, line.length - PAYLOAD));
    const child = payload[0]! - 49;
    const whole = payload.length === PAYLOAD && child >= 0 && child < children &&
      !isDigit(line[line.length - PAYLOAD - 1]);
    if (whole && payload.every((byte, at) => byte === expected[child]![at])) return countUp(child);
    if (whole && payload.every(isDigit)) {
      misplaced++;
      setNext(child, numberOf(payload) + 1);
    } else if (/\d{15}/.test(new TextDecoder().decode(line))) torn++; // the rest are the runner's own words
  }

  using file = await Deno.open(path);
  const buffer = new Uint8Array(4 * 1024 * 1024);
  let held = 0;
  for (let count = await file.read(buffer); count !== null; count = await file.read(buffer.subarray(held))) {
    const filled = buffer.subarray(0, held + count);
    let start = 0;
    for (let end = filled.indexOf(10); end !== -1; end = filled.indexOf(10, start)) {
      take(filled.subarray(start, end));
      start = end + 1;
    }
    held = filled.length - start;
    buffer.copyWithin(0, start, filled.length);
  }
  const missing = next.reduce((sum, number) => sum + LINES + 1 - number, 0);
  if (torn + misplaced + missing + held === 0) return null;
  return `${torn} torn, ${misplaced} misplaced, ${missing} missing at the end`;
}

/** From the exit of one child to the signal that another gets because of it. */
const reaction: Measure = async (all, rounds) => {
  const figures = new Figures();
  const runners = all.filter(({ role }) => role !== "floor");
  const python = await output("python3", ["-c", "import sys; print(sys.executable)"]);
  if (python === null) return "\nThe reaction to an exit is not measured: there is no python3.";
  const total = rounds(15);
  for (let round = 0; round <= total; round++) {
    for (const runner of runners) {
      progress(`reaction, round ${round} of ${total}: ${runner.name}`);
      const folder = folderOf(runner, "reaction");
      const tell = `def tell(name):
    at = time.monotonic_ns()
    os.write(os.open("${folder}/" + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), str(at).encode())
`;
      const stays = `import os, signal, time
${tell}
def told(*_):
    tell("told"); os._exit(0)
for name in (signal.SIGTERM, signal.SIGINT): signal.signal(name, told)
tell("up")
while True: signal.pause()
`;
      const leaves = `import os, time
${tell}
open("${folder}/go").read()
tell("left"); os._exit(1)
`;
      await figures.attempt(runner, ["reaction"], async () => {
        for (const name of ["go", "up", "told"]) await Deno.remove(`${folder}/${name}`).catch(() => {});
        await output("mkfifo", [`${folder}/go`]);
        await Deno.writeTextFile(`${folder}/stays.py`, stays);
        await Deno.writeTextFile(`${folder}/leaves.py`, leaves);
        const commands = ["stays", "leaves"].map((name) => `exec ${python} -IS ${folder}/${name}.py`);
        await using run = new Run(runner.prepare({ commands, endsAll: true }, folder), folder);
        await run.until("all ran", () => sizeOf(`${folder}/up`) > 0);
        await pause(SETTLE_MS); // until nobody counts it as still starting
        const go = await Deno.open(`${folder}/go`, { write: true });
        go.close();
        await run.until("the other was told", () => sizeOf(`${folder}/told`) > 0, { limitMs: STOP_LIMIT_MS });
        const at = (name: string) => Number(Deno.readTextFileSync(`${folder}/${name}`));
        if (round > 0) figures.add(runner, "reaction", (at("told") - at("left")) / 1e6);
        await run.ended(STOP_LIMIT_MS);
      });
    }
  }
  const rows = runners.map((runner) => ({
    name: runner.name,
    cells: [figures.cell(runner, "reaction", finerMs), figures.cell(runner, "reaction", worstMs)],
  }));
  return table("From the exit of a child to the signal that another gets for it", [
    `median of ${total}`,
    "worst",
  ], rows);
};

/** From the exit of a child to the first thing that its next run does. */
const restart: Measure = async (all, rounds) => {
  const figures = new Figures();
  const own = all.filter(({ role }) => role === "ours");
  const total = rounds(50);
  for (const runner of own) {
    progress(`restart: ${runner.name}`);
    const folder = folderOf(runner, "restart");
    await figures.attempt(runner, ["restart"], async () => {
      await Deno.writeTextFile(`${folder}/times`, "");
      await output("mkfifo", [`${folder}/never`]);
      // Only builtins: no other process is waited for.
      const tell = `echo $EPOCHREALTIME >> ${folder}/times`;
      const script = `${tell}\nread -t 0.02 <> ${folder}/never\n${tell}\nexit 1\n`;
      await Deno.writeTextFile(`${folder}/dies.sh`, script);
      const fields = { restart_policy: "on-failure", max_retries: 1_000_000, retry_delay: 0 };
      const commands = [`exec bash --norc ${folder}/dies.sh`];
      await using run = new Run(runner.prepare({ commands, fields }, folder), folder);
      const times = () => Deno.readTextFileSync(`${folder}/times`).split("\n").slice(0, -1).map(Number);
      await run.until("it was restarted often enough", () => times().length > 2 * total + 2);
      const found = times().slice(1, 2 * total + 1); // exit, start, exit, start
      for (let at = 0; at < found.length; at += 2) {
        figures.add(runner, "restart", (found[at + 1]! - found[at]!) * 1_000);
      }
      await run.stop();
    });
  }
  const rows = own.map((runner) => ({
    name: runner.name,
    cells: [figures.cell(runner, "restart", finerMs), figures.cell(runner, "restart", worstMs)],
  }));
  const title =
    "From the exit of a child to its next run's first action (restart_policy on-failure, retry_delay 0)";
  return table(title, [`median of ${total}`, "worst"], rows);
};

const IDLE_MS = 10_000;

/** What ten services that do nothing cost: processor time and memory of the program and its helpers. */
const idle: Measure = async (all) => {
  await using runs = new AsyncDisposableStack();
  progress("idle: all at once");
  const started = all.map((runner) => {
    const folder = folderOf(runner, "idle");
    const commands = Array.from({ length: 10 }, () => `echo >> ${folder}/up; exec sleep 1000`);
    return { runner, folder, run: runs.use(new Run(runner.prepare({ commands }, folder), folder)) };
  });
  for (const { folder, run } of started) await run.until("all ran", () => sizeOf(`${folder}/up`) === 10);
  await pause(8_000); // until caches are written and garbage is collected
  const before = started.map(({ run }) =>
    [run.pid, ...run.helpers()].map((pid) => ({ pid, used: usage(pid) }))
  );
  await pause(IDLE_MS);
  const rows = started.map(({ runner, run }, index) => {
    const all = before[index]!.map(({ pid, used }) => usedSince(used, pid));
    const helperPids = before[index]!.slice(1).map(({ pid }) => pid);
    return {
      name: runner.name,
      cells: [
        `${all.reduce((sum, { cpuMs }) => sum + cpuMs, 0).toFixed(2)} ms`,
        `${all.reduce((sum, { wakes }) => sum + wakes, 0)}`,
        mib([memory([run.pid])]),
        `${helperPids.length}: ${mib([memory(helperPids)])}`,
      ],
    };
  });
  for (const { run } of started) Deno.kill(run.pid, "SIGINT");
  for (const { run } of started) await run.ended(STOP_LIMIT_MS).catch((error) => progress(String(error)));
  const headings = [`CPU in ${IDLE_MS / 1_000} s`, "wake-ups", "memory", "its helpers"];
  return table("Ten idle services", headings, rows);
};

/** The whole process that shows the service table. */
const list: Measure = async (all, rounds) => {
  const figures = new Figures();
  const total = rounds(20);
  const file = `${TEMP}/list`;
  await Deno.mkdir(file);
  const commands = ["one", "two", "three"].map((name) => `exec ${name}`);
  const nothing = `${TEMP}/nothing.js`;
  await Deno.writeTextFile(nothing, `console.log("")`);
  const floor: Runner = { name: "deno run of an empty program", role: "floor", prepare: () => [] };
  const cases = all.filter(({ role }) => role === "ours").flatMap((runner) => {
    const line = runner.prepare({ commands }, file);
    const program = line.slice(0, line.indexOf("--no-dashboard"));
    return [
      {
        runner,
        column: "built-in services",
        line: [...program, "--infrastructure", `${ROOT}/infrastructure`, "--list"],
      },
      { runner, column: "services file", line: [...program, "--infrastructure", file, "--list"] },
    ];
  });
  cases.unshift({
    runner: floor,
    column: "built-in services",
    line: [Deno.execPath(), "run", "-A", nothing],
  });
  for (let round = 0; round <= total; round++) {
    progress(`list, round ${round} of ${total}`);
    for (const { runner, column, line: [program, ...args] } of cases) {
      const beganAt = performance.now();
      if (await output(program!, args) === null) throw new Error(`${program} ${args.join(" ")} failed`);
      if (round > 0) figures.add(runner, column, performance.now() - beganAt);
    }
  }
  const columns = ["built-in services", "services file"];
  const rows = [...new Set(cases.map(({ runner }) => runner))].map((runner) => ({
    name: runner.name,
    cells: columns.map((column) => figures.cell(runner, column, wholeMs)),
  }));
  return table(`--list, the whole process (median of ${total})`, columns, rows);
};

const MEASURES: Record<string, Measure> = {
  start: startAndStop,
  many: manyServices,
  lines,
  reaction,
  restart,
  idle,
  list,
};

// ------------------------------------------------------------------------------------------------------------------
// 5. Main

async function main(args: readonly string[]): Promise<number> {
  const flags = parseArgs(args, { string: ["rounds", "only"] });
  const asked = flags._.length > 0 ? flags._.map(String) : Object.keys(MEASURES);
  const unknown = asked.filter((name: string) => !(name in MEASURES));
  if (unknown.length > 0) {
    console.error(`There is no measure ${unknown.join(", ")}; they are ${Object.keys(MEASURES).join(", ")}.`);
    return 2;
  }
  const rounds: Rounds = (usual) => flags.rounds === undefined ? usual : Number(flags.rounds);
  progress("installing the peers");
  const all = (await findRunners()).filter(({ name }) =>
    flags.only === undefined || name.includes(flags.only)
  );
  const [version, cores] = [Deno.version.deno, navigator.hardwareConcurrency];
  console.log(`Deno ${version}, ${await output("node", ["--version"])} (Node), ${cores} processors`);
  for (const name of asked) {
    const text = await MEASURES[name]!(all, rounds);
    if (terminal) progress("");
    console.log(text);
  }
  return 0;
}

function cleanUp(): void {
  for (let tries = 0; killAll(`${TEMP}#`) > 0 && tries < 100; tries++);
  Deno.removeSync(TEMP, { recursive: true });
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => {
      cleanUp();
      Deno.exit(130);
    });
  }
  let status: number;
  try {
    status = await main(Deno.args);
  } finally {
    cleanUp();
  }
  Deno.exit(status);
}

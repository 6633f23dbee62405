/**
 * What every form of the program must do on a machine that has nothing else of ours: one table, run against the source,
 * the bundled script and the binary.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertGreater, assertMatch, assertStringIncludes } from "@std/assert";
import { VERSION } from "../config/version.ts";
import { findChromium, Page } from "../jobs/testing/chromium.ts";
import type { FormName } from "./forms.ts";
import { FORMS, Machine } from "./forms.ts";
import type { FolderContents, StartOptions } from "./run.ts";
import { freePort, NOTHING_IGNORED, Run, runToEnd, waitUntil } from "./run.ts";
import { quote, TestTerminal, whyNoTerminal } from "./terminal.ts";

/** One thing that every form must do. */
interface SmokeTest {
  /** A sentence of which the form is the subject. */
  readonly name: string;
  /** What the machine holds besides the program, and where that is. Nothing by default, and in `city/`. */
  readonly contents?: FolderContents;
  readonly at?: string;
  /** Forms that it has no meaning for. */
  readonly notFor?: readonly FormName[];
  /** What it needs that this machine lacks. */
  readonly missing?: string | null;
  test(machine: Machine): Promise<void>;
}

/** A services file in the folder beside the program. */
function services(...fields: readonly Record<string, unknown>[]): FolderContents {
  return { files: { "city/infrastructure/services.json": JSON.stringify({ services: fields }) } };
}

/** A service that prints when it is up, and when it stops. */
function talks(name: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  const command = `trap 'echo ${name} stops; exit 0' TERM; echo ${name} is up; while :; do sleep 0.05; done`;
  return { name, command, health: { log: "is up" }, ...more };
}

const TWO = services(talks("db"), talks("web", { dependencies: ["db"] }));
const LIST = /^web +web +- .*db$/m;

/** Runs it to its end. */
function ends(machine: Machine, args: readonly string[], more: StartOptions = {}) {
  return runToEnd(null, args, { ...machine.start, ...more });
}

// ---- Where it finds its folder --------------------------------------------------------------------------------------

const PLACES: readonly SmokeTest[] = [
  ...([
    ["beside infrastructure/", "city", "city/infrastructure/services.json"],
    ["inside a folder with a services file", "city/infrastructure", "city/infrastructure/services.json"],
    ["in a folder with an odd name", "a b%20ж", "a b%20ж/infrastructure/services.json"],
  ] as const).map(([what, at, file]): SmokeTest => ({
    name: `placed ${what}, it finds it from any folder`,
    contents: { files: { [file]: TWO.files?.["city/infrastructure/services.json"] ?? "" } },
    at,
    async test(machine) {
      for (const cwd of ["/", machine.folder.path]) {
        const { code, out, err } = await ends(machine, ["--list"], { cwd });
        assertEquals([code, err], [0, ""]);
        assertMatch(out, LIST);
      }
    },
  })),
  {
    name: "placed in a folder with services/, it takes that folder and the built-in services",
    contents: { files: { "city/services/x": "" } },
    async test(machine) {
      assertMatch((await ends(machine, ["--list"])).out, /^db +Database Service +8001 /m);
    },
  },
  {
    name: "called by a symbolic link, it looks where it is, not where the link is",
    contents: TWO,
    notFor: ["source"], // a module looks for its parts beside the link
    async test(machine) {
      const { form, folder, program } = machine;
      await Deno.mkdir(`${folder.path}/bin`);
      await Deno.symlink(`../city/${form.file}`, `${folder.path}/bin/town`);
      await Deno.symlink("town", `${folder.path}/bin/again`);
      const again = [...program.slice(0, -1), `${folder.path}/bin/again`];
      assertMatch((await ends(machine, ["--list"], { program: again })).out, LIST);
      const deno = Deno.execPath().replace(/\/[^/]+$/, "");
      const environment = { ...machine.environment, PATH: `${folder.path}/bin:${deno}:/usr/bin:/bin` };
      const onPath = await ends(machine, ["--list"], { program: ["/usr/bin/env", "town"], environment });
      assertMatch(onPath.out, LIST);
    },
  },
  {
    name: "with no infrastructure beside it, it explains what to do",
    async test(machine) {
      const { code, out, err } = await ends(machine, []);
      assertEquals([code, out], [2, ""]);
      assertStringIncludes(err, "--infrastructure");
      assertStringIncludes(err, `${machine.folder.path}/city/infrastructure`);
    },
  },
];

// ---- Services -------------------------------------------------------------------------------------------------------

const SERVICES: readonly SmokeTest[] = [
  {
    name: "started as a person types it, it starts in order, streams, and stops in reverse order",
    contents: TWO,
    async test(machine) {
      const [program, ...first] = machine.program;
      const name = `./${machine.form.file}`;
      const typed = [...first.length === 0 ? [] : [program ?? ""], ...first.slice(0, -1), name];
      await using run = new Run(null, [], {
        ...machine.start,
        program: typed,
        cwd: `${machine.folder.path}/city`,
      });
      await run.line("[orchestrator] web is running");
      assertEquals(await run.stop("SIGINT"), 0);
      assertEquals(run.err.text, "");
      const own = run.out.lines.filter((line) => /^\[( db|web)\] \w+ (is up|stops)/.test(line));
      assertEquals(own, ["[ db] db is up", "[web] web is up", "[web] web stops", "[ db] db stops"]);
    },
  },
  {
    name: "it starts what --services names, and what that depends on",
    contents: services(talks("db"), talks("web", { dependencies: ["db"] }), talks("bot")),
    async test(machine) {
      await using run = new Run(null, ["--services", "web"], machine.start);
      await run.line("[orchestrator] web is running");
      assertEquals(await run.stop(), 0);
      assertStringIncludes(run.out.text, "[ db] db is up");
      assert(!run.out.text.includes("bot is up"), run.out.text);
    },
  },
  {
    name: "it becomes the service of --service",
    contents: {
      files: {
        ...services({ name: "a", command: "echo $$; ls /proc/self/fd | wc -l; exit 9" }).files,
        "city/infrastructure/.env": "",
      },
    },
    async test(machine) {
      await using run = new Run(null, ["--service", "a"], machine.start);
      assertEquals(await run.code(), 9);
      assertEquals(run.out.lines, [String(run.pid), "4"]); // ls itself reads one
      assertEquals(run.err.text, "");
    },
  },
  {
    name: "it reads services.yaml, and names its mistakes",
    async test(machine) {
      const yaml = "services:\n  - name: db\n    command: echo hello from yaml\n";
      await machine.folder.write("city/infrastructure/services.yaml", yaml);
      const good = await ends(machine, []);
      assertEquals([good.code, good.err], [0, ""]);
      assertStringIncludes(good.out, "[db] hello from yaml");
      await machine.folder.write("city/infrastructure/services.yaml", `${yaml}    dependencys: [x]\n`);
      const bad = await ends(machine, []);
      assertEquals(bad.code, 2);
      assertStringIncludes(bad.err, "services.yaml:4");
    },
  },
  {
    name: "it ends with a crash card and status 1 when a service crashes",
    contents: services({ name: "a", command: "echo last words; exit 5" }),
    async test(machine) {
      const { code, out, err } = await ends(machine, []);
      assertEquals([code, err], [1, ""]);
      assertMatch(out, /✖ a \[a\] exited with status 5.*\n.*Its last line:\n.* {2}│ last words\n$/);
    },
  },
  {
    name: "killed without warning, its guard stops the services",
    contents: TWO,
    async test(machine) {
      await using run = new Run(null, [], machine.start);
      await run.line("[orchestrator] web is running");
      run.signal("SIGKILL");
      await run.allGone();
    },
  },
  {
    name: "it names who holds a port that is taken",
    async test(machine) {
      const port = freePort();
      using _taken = Deno.listen({ port });
      const contents = services({ name: "a", command: "sleep 1000", port });
      for (const [path, text] of Object.entries(contents.files ?? {})) await machine.folder.write(path, text);
      const { code, out } = await ends(machine, []);
      assertEquals(code, 1);
      assertStringIncludes(out, `port ${port} is taken by PID ${Deno.pid} (`);
    },
  },
  {
    name: "it draws its dashboard on a terminal",
    contents: TWO,
    missing: whyNoTerminal(),
    async test(machine) {
      await using terminal = await TestTerminal.open({ environment: machine.environment });
      await terminal.type(machine.program.map(quote).join(" "));
      await terminal.shows(/web +web +● RUNNING/);
      await terminal.keys("C-c");
      await waitUntil(async () => (await terminal.rows()).includes("$>"), "the shell is back");
      assertEquals(await terminal.run("echo status $?"), ["status 0"]);
    },
  },
  {
    name: "in the background, it is asked, starts itself again as the same process, and is stopped",
    contents: TWO,
    async test(machine) {
      const shell =
        `"$@" -d >/dev/null || exit; "$@" status --json; "$@" logs web -n 1; "$@" self-restart; ` +
        `until "$@" status >/dev/null; do :; done; "$@" status --json; "$@" stop; "$@" status >/dev/null; echo "status $?"`;
      const { code, out, err } = await ends(machine, [], { shell });
      assertEquals(code, 0, out);
      assertMatch(err, /^(\[orchestrator\] .*\n)*$/);
      const [first, again] = [...out.matchAll(/^\{\n[^]*?^\}$/gm)].map(([json]) => JSON.parse(json));
      for (const status of [first, again]) {
        assertEquals(status.services.map(({ state }: { state: string }) => state), ["running", "running"]);
      }
      assertEquals(again.pid, first.pid);
      assertMatch(out, /web is up$/m);
      assertMatch(out, /status 3\n$/);
    },
  },
];

// ---- Everything that is loaded when it is asked for -----------------------------------------------------------------

const PARTS: readonly SmokeTest[] = [
  {
    name: "its help, that of the commands, and --version need no folder",
    async test(machine) {
      for (const word of ["engine", "worker", "job", "workers"]) {
        const { code, out, err } = await ends(machine, [word, "--help"]);
        assertEquals([code, err], [0, ""]);
        assertStringIncludes(out, `orchestrator ${word}`);
      }
      const help = await ends(machine, ["--help"]);
      assertEquals([help.code, help.err], [0, ""]);
      for (const text of ["usage: orchestrator", "--services", "db, web, bot"]) {
        assertStringIncludes(help.out, text);
      }
      assertEquals((await ends(machine, ["--version"])).out, `orchestrator ${VERSION}\n`);
    },
  },
  {
    name: "it holds the code of check, init, setup and env",
    contents: TWO,
    async test(machine) {
      for (const args of [["check"], ["init"], ["setup"], ["env", "db", "--explain"]]) {
        const environment = { ...machine.environment, PATH: "/nowhere" };
        const { out, err } = await ends(machine, args, { environment });
        assert(!/Module not found|Uncaught/.test(out + err), out + err);
        assertGreater((out + err).length, 0);
      }
    },
  },
  {
    name: "it holds the client of Redis",
    contents: { files: { "city/flow.js": flowFile() } },
    async test(machine) {
      const storage = `redis://127.0.0.1:${freePort()}`;
      const args = ["engine", "--blueprints", `${machine.folder.path}/city/flow.js`, "--storage", storage];
      const { code, err } = await ends(machine, args);
      assertEquals(code, 2);
      assertStringIncludes(err, `Cannot reach ${storage}: connect ECONNREFUSED`);
    },
  },
  {
    name: "its engine and its worker do a job, kept in SQLite, and the page shows it",
    contents: { files: { "city/flow.js": flowFile() } },
    missing: findChromium() === undefined && !NOTHING_IGNORED ? "no Chromium in PATH" : null,
    async test(machine) {
      const city = `${machine.folder.path}/city`;
      const tokens = { CLIENT_TOKEN: "client-token", GLOBAL_WORKER_TOKEN: "worker-token" };
      const options = { ...machine.start, cwd: city, environment: { ...machine.environment, ...tokens } };
      await using engine = new Run(null, ["engine", "--blueprints", "flow.js", "--port", "0"], options);
      const { url } = JSON.parse(await engine.line('"engine_running"'));
      await using page = await Page.open();
      await page.goto(`${url}/`);
      assertEquals(page.problems, []);
      await page.until("document.activeElement?.id === 'token'");
      await page.type("client-token");
      await page.press("Enter");
      await page.shows("No jobs yet");

      const environment = { ...options.environment, ORCHESTRATOR_URL: url, WORKER_TOKEN: "worker-token" };
      const jobs = { ...options, environment };
      const submitted = await runToEnd(null, ["job", "submit", "greet", '{"name":"Ada"}'], jobs);
      assertEquals([submitted.code, submitted.err], [0, ""]);
      await page.shows("Waits for worker", "#jobs");
      await using worker = new Run(null, ["worker", "--exec", "greeting=cat"], jobs);
      await page.shows("Finished", "#jobs");
      await page.click(`#jobs a[href$="${submitted.out.trim()}"]`);
      await page.shows("Ada", ".job");
      assertEquals(page.problems, []);

      assertEquals(await worker.stop(), 0);
      assertEquals(await engine.stop(), 0);
      assertEquals([engine.err.text, worker.err.text], ["", ""]);
      assertGreater((await Deno.stat(`${city}/jobs.sqlite`)).size, 0);
    },
  },
];

/** A blueprint as a file that needs nothing beside it. */
function flowFile(): string {
  return `export default ({ StateMachineBlueprint }) => {
  const flow = new StateMachineBlueprint({ name: "greet", apiEndpoint: "/jobs/greet", apiVersion: "v1" });
  flow.handlerFor("start", { isStart: true, to: { success: "done", failure: "failed" } }, ({ initialData, actions }) =>
    actions.dispatchTask({ taskType: "greeting", params: initialData }));
  flow.handlerFor("done", { isEnd: true });
  flow.handlerFor("failed", { isEnd: true });
  return flow;
};
`;
}

/** Tests one form of the program. */
export function smokeTests(formName: FormName): void {
  const form = FORMS[formName];
  for (
    const { name, contents = {}, at, notFor = [], missing = null, test } of [...PLACES, ...SERVICES, ...PARTS]
  ) {
    if (notFor.includes(formName)) continue;
    const reason = form.missing ?? missing;
    Deno.test({
      name: `${formName}: ${name}${reason === null ? "" : ` (ignored: ${reason})`}`,
      ignore: reason !== null,
      async fn() {
        await using machine = await Machine.make(form, contents, at);
        await test(machine);
      },
    });
  }
}

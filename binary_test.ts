/**
 * The program as `deno task compile` makes it: where it finds its folder, and that nothing of it is left behind at compiling.
 *
 * The binary is the one that ORCHESTRATOR_BIN names; otherwise one is made where DENO_FOR_COMPILE names a Deno that can.
 *
 * @module
 */

// @ts-types="./config/std.d.ts"
import { assert, assertEquals, assertGreater, assertMatch, assertStringIncludes } from "@std/assert";
import { VERSION } from "./config/version.ts";
import {
  Folder,
  type FolderContents,
  freePort,
  NOTHING_IGNORED,
  ROOT,
  Run,
  runToEnd,
  type StartOptions,
  waitUntil,
} from "./testing/run.ts";
import { quote, TestTerminal, whyNoTerminal } from "./testing/terminal.ts";

const given = Deno.env.get("ORCHESTRATOR_BIN");
const compiler = Deno.env.get("DENO_FOR_COMPILE");
const missing = given || compiler || NOTHING_IGNORED
  ? null
  : "set ORCHESTRATOR_BIN to a binary, or DENO_FOR_COMPILE to a deno that can compile";

let made: Promise<string> | null = null;

/** The binary, made at first use where none is given. */
function binary(): Promise<string> {
  made ??= given ? Deno.realPath(given) : compile();
  return made;
}

async function compile(): Promise<string> {
  assert(compiler, "there is neither ORCHESTRATOR_BIN nor DENO_FOR_COMPILE");
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-binary-" });
  addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  const args = ["run", "-A", "build/compile.ts", "--output", `${folder}/orchestrator`];
  const { success, stderr } = await new Deno.Command(compiler, { args, cwd: ROOT, stdin: "null" }).output();
  assert(success, new TextDecoder().decode(stderr));
  return `${folder}/orchestrator`;
}

function binaryTest(name: string, test: () => Promise<void>): void {
  Deno.test({
    name: missing === null ? name : `${name} (ignored: ${missing})`,
    ignore: missing !== null,
    fn: test,
  });
}

/** A machine that has the binary and nothing else of ours. */
const BARE: StartOptions["environment"] = {
  DENO_DIR: "/nonexistent",
  HOME: "/nonexistent",
  XDG_CACHE_HOME: undefined,
  CI: undefined,
  NO_COLOR: undefined,
};

/** A folder with the binary at `place`. */
async function placed(place: string, contents: FolderContents): Promise<{ folder: Folder; program: string }> {
  const folder = await Folder.make({ env: null, ...contents });
  const program = `${folder.path}/${place}`;
  await Deno.mkdir(program.slice(0, program.lastIndexOf("/")), { recursive: true });
  await Deno.link(await binary(), program).catch(async () => await Deno.copyFile(await binary(), program)); // another disk
  return { folder, program };
}

const TWO = JSON.stringify({
  services: [
    { name: "db", command: "trap 'echo db stops; exit 0' TERM; echo db is up; while :; do sleep 0.05; done" },
    {
      name: "web",
      command: "trap 'echo web stops; exit 0' TERM; echo web is up; while :; do sleep 0.05; done",
      dependencies: ["db"],
    },
  ],
});

for (
  const [what, place, file] of [
    ["beside infrastructure/", "orchestrator", "infrastructure/services.json"],
    ["inside a folder with a services file", "infrastructure/orchestrator", "infrastructure/services.json"],
    ["in a folder with an odd name", "a b%20ж/orchestrator", "a b%20ж/infrastructure/services.json"],
  ] as const
) {
  binaryTest(`placed ${what}, the binary finds it from any folder`, async () => {
    const { folder, program } = await placed(place, { files: { [file]: TWO } });
    await using _ = folder;
    for (const cwd of ["/", folder.path]) {
      const { code, out, err } = await runToEnd(null, ["--list"], {
        program: [program],
        cwd,
        environment: BARE,
      });
      assertEquals(code, 0, err);
      assertMatch(out, /^web +web +- .*db$/m);
    }
  });
}

binaryTest(
  "placed in a folder with services/, the binary takes that folder and the built-in services",
  async () => {
    const { folder, program } = await placed("city/orchestrator", { files: { "city/services/x": "" } });
    await using _ = folder;
    const { out } = await runToEnd(null, ["--list"], { program: [program], cwd: "/", environment: BARE });
    assertMatch(out, /^db +Database Service +8001 /m);
  },
);

binaryTest("called by a symbolic link, the binary looks where it is, not where the link is", async () => {
  const { folder, program } = await placed("real/orchestrator", {
    files: { "real/infrastructure/services.json": TWO },
  });
  await using _ = folder;
  await Deno.mkdir(`${folder.path}/bin`);
  await Deno.symlink("../real/orchestrator", `${folder.path}/bin/city`);
  await Deno.symlink("city", `${folder.path}/bin/again`);
  const { out } = await runToEnd(null, ["--list"], {
    program: [`${folder.path}/bin/again`],
    cwd: "/",
    environment: BARE,
  });
  assertMatch(out, /^web /m);
  const onPath = { ...BARE, PATH: `${folder.path}/bin:/usr/bin:/bin` };
  assertMatch(
    (await runToEnd(null, ["--list"], { program: ["/usr/bin/env", "city"], cwd: "/", environment: onPath }))
      .out,
    /^web /m,
  );
  assertGreater((await Deno.stat(program)).size, 0);
});

binaryTest("with no infrastructure beside it, the binary says what to do", async () => {
  const { folder, program } = await placed("orchestrator", {});
  await using _ = folder;
  const { code, out, err } = await runToEnd(null, [], { program: [program], cwd: "/", environment: BARE });
  assertEquals([code, out], [2, ""]);
  assertStringIncludes(err, "--infrastructure");
  assertStringIncludes(err, `${folder.path}/infrastructure`);
});

binaryTest("--help and --version need no folder", async () => {
  const program = [await binary()];
  const help = await runToEnd(null, ["--help"], { program, cwd: "/", environment: BARE });
  assertEquals(help.code, 0);
  for (const text of ["usage: orchestrator", "--services", "db, web, bot"]) {
    assertStringIncludes(help.out, text);
  }
  const version = await runToEnd(null, ["--version"], { program, cwd: "/", environment: BARE });
  assertEquals(version.out, `orchestrator ${VERSION}\n`);
});

binaryTest("the binary holds what reads services.yaml, and tells its mistakes", async () => {
  const yaml = "services:\n  - name: db\n    command: echo hello from yaml\n";
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.yaml": yaml },
  });
  await using _ = folder;
  const start = async () => await runToEnd(null, [], { program: [program], cwd: "/", environment: BARE });
  const good = await start();
  assertEquals(good.code, 0, good.err);
  assertStringIncludes(good.out, "[db] hello from yaml");
  await folder.write("infrastructure/services.yaml", `${yaml}    dependencys: [x]\n`);
  const bad = await start();
  assertEquals(bad.code, 2);
  assertStringIncludes(bad.err, "services.yaml:4");
});

binaryTest("the binary starts in order, streams, and stops in reverse order", async () => {
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.json": TWO },
  });
  await using _ = folder;
  await using run = new Run(null, [], { program: [program], cwd: "/", environment: BARE });
  await run.line("[orchestrator] web is running");
  assertEquals(await run.stop("SIGINT"), 0);
  assert(!run.out.text.includes("Cannot"), run.out.text);
  const own = run.out.lines.filter((line) => /^\[( db|web)\] \w+ (is up|stops)/.test(line));
  assertEquals(own, ["[ db] db is up", "[web] web is up", "[web] web stops", "[ db] db stops"]);
});

binaryTest("the binary ends with a crash card and status 1 when a service crashes", async () => {
  const services = { services: [{ name: "a", command: "echo last words; exit 5" }] };
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.json": JSON.stringify(services) },
  });
  await using _ = folder;
  const { code, out, err } = await runToEnd(null, [], { program: [program], cwd: "/", environment: BARE });
  assertEquals([code, err], [1, ""]);
  assertMatch(out, /✖ a \[a\] exited with status 5.*\n.*Its last line:\n.* {2}│ last words\n$/);
});

binaryTest("when the binary is killed without warning, its guard stops the services", async () => {
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.json": TWO },
  });
  await using _ = folder;
  await using run = new Run(null, [], { program: [program], cwd: "/", environment: BARE });
  await run.line("[orchestrator] web is running");
  run.signal("SIGKILL");
  await run.allGone();
});

binaryTest("the binary names who holds a port that is taken", async () => {
  const port = freePort();
  using _taken = Deno.listen({ port });
  const services = { services: [{ name: "a", command: "sleep 1000", port }] };
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.json": JSON.stringify(services) },
  });
  await using _ = folder;
  const { code, out } = await runToEnd(null, [], { program: [program], cwd: "/", environment: BARE });
  assertEquals(code, 1);
  assertStringIncludes(out, `port ${port} is taken by PID ${Deno.pid} (`);
});

binaryTest("the binary becomes the service of --service", async () => {
  const services = { services: [{ name: "a", command: "echo $$; ls /proc/self/fd | wc -l; exit 9" }] };
  const { folder, program } = await placed("orchestrator", {
    files: { "infrastructure/services.json": JSON.stringify(services), "infrastructure/.env": "" },
  });
  await using _ = folder;
  await using run = new Run(null, ["--service", "a"], { program: [program], cwd: "/", environment: BARE });
  assertEquals(await run.code(), 9);
  assertEquals(run.out.lines, [String(run.pid), "4"]); // ls itself reads one
  assertEquals(run.err.text, "");
});

for (const word of ["engine", "worker", "job", "workers"]) {
  binaryTest(`the binary holds the code of ${word}`, async () => {
    const { code, out, err } = await runToEnd(null, [word, "--help"], {
      program: [await binary()],
      cwd: "/",
      environment: BARE,
    });
    assertEquals(code, 0, err);
    assertStringIncludes(out, word);
  });
}

binaryTest("the binary holds the client of Redis", async () => {
  const storage = `redis://127.0.0.1:${freePort()}`;
  const { code, err } = await runToEnd(null, [
    "engine",
    ...["--blueprints", `${ROOT}/examples/jobs/flow.js`],
    ...["--storage", storage],
  ], { program: [await binary()], cwd: "/", environment: BARE });
  assertEquals(code, 2);
  assertStringIncludes(err, `Cannot reach ${storage}: connect ECONNREFUSED`);
});

for (const word of ["check", "init", "setup", "env"]) {
  binaryTest(`the binary holds the code of ${word}`, async () => {
    const { folder, program } = await placed("orchestrator", {
      files: { "infrastructure/services.json": TWO },
    });
    await using _ = folder;
    const args = word === "env" ? ["env", "db", "--explain"] : [word];
    const { out, err } = await runToEnd(null, args, {
      program: [program],
      cwd: "/",
      environment: { ...BARE, PATH: "/nowhere" },
    });
    assert(!/Module not found|Uncaught/.test(out + err), out + err);
    assertGreater((out + err).length, 0);
  });
}

const noTerminal = whyNoTerminal();
Deno.test({
  name: `the binary draws its dashboard on a terminal${
    missing ?? noTerminal ? ` (ignored: ${missing ?? noTerminal})` : ""
  }`,
  ignore: (missing ?? noTerminal) !== null,
  fn: async () => {
    const { folder, program } = await placed("orchestrator", {
      files: { "infrastructure/services.json": TWO },
    });
    await using _ = folder;
    await using terminal = await TestTerminal.open({ environment: BARE });
    await terminal.type(quote(program));
    await terminal.shows(/web +web +● RUNNING/);
    await terminal.keys("C-c");
    await waitUntil(async () => (await terminal.rows()).includes("$>"), "the shell is back");
    assertEquals(await terminal.run("echo status $?"), ["status 0"]);
  },
});

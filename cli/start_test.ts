// @ts-types="../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { readProcess } from "../process/procfs.ts";
import {
  Folder,
  freePort,
  processesWith,
  Run,
  runToEnd,
  type ServiceFields,
  waitUntil,
} from "../testing/run.ts";
import { commandLine, TestTerminal, whyNoTerminal } from "../testing/terminal.ts";
import { parseSize } from "./start.ts";

// `--service NAME`: the process becomes the service, as `os.execvp` makes it.

/** Has a service print which signals its process ignores, blocks and catches. */
const PRINT_SIGNALS = "grep -E '^Sig(Ign|Blk|Cgt):' /proc/self/status";

/** The signals of such a text, without those that the C library keeps to itself. */
function signalsOf(text: string): Record<string, number> {
  const lines = [...text.matchAll(/^(Sig\w+):\s+([0-9a-f]+)$/gm)];
  return Object.fromEntries(
    lines.map(([, name, mask]) => [name, Number(BigInt(`0x${mask}`) & 0x7fff_ffffn)]),
  );
}

async function folderOf(
  service: Partial<ServiceFields>,
  env: Record<string, string | number> = {},
): Promise<Folder> {
  return await Folder.make({ services: [{ name: "a", ...service }], env });
}

Deno.test("the service has the PID, the streams and the exit status of the orchestrator", async () => {
  await using folder = await folderOf({
    command: "echo $$; echo to stderr >&2; read line; echo got $line; exit 7",
  });
  await using run = new Run(folder, ["--service", "a"], { shell: 'echo typed | "$@"; echo "status $?"' });
  await run.line("status 7");
  assertEquals(run.out.lines.slice(1), ["got typed", "status 7"]);
  await run.code();
  assertEquals(run.err.text, "to stderr\n");
  await using direct = new Run(folder, ["--service", "a"]);
  assertEquals(await direct.code(), 7);
  assertEquals(direct.out.lines[0], String(direct.pid));
});

Deno.test("a shell that execs the orchestrator is the service in the end", async () => {
  await using folder = await folderOf({ command: ["sh", "-c", "echo service $$"] });
  const { out } = await runToEnd(folder, ["--service", "a"], { shell: 'echo shell $$; exec "$@"' });
  const [shell, service] = out.trim().split("\n").map((line) => line.split(" ")[1]);
  assertEquals(service, shell);
});

for (const signal of ["SIGTERM", "SIGINT", "SIGKILL", "SIGHUP", "SIGPIPE", "SIGUSR1"] as const) {
  Deno.test(`a service that dies of ${signal} dies as itself`, async () => {
    await using folder = await folderOf({ command: "echo up; exec sleep 1000" });
    await using run = new Run(folder, ["--service", "a"]);
    await run.line("up");
    run.signal(signal);
    assertEquals((await run.exit).signal, signal);
  });
}

for (
  const [what, shell] of [["nothing", 'exec "$@"'], [
    "SIGHUP and SIGINT, as nohup does,",
    `trap '' HUP INT; exec "$@"`,
  ]]
) {
  Deno.test(`where the caller ignores ${what} the service has the signals that an exec would give it`, async () => {
    await using folder = await folderOf({ command: ["sh", "-c", PRINT_SIGNALS] });
    const args = ["-c", shell!, "sh", "sh", "-c", PRINT_SIGNALS];
    const { stdout } = await new Deno.Command("/bin/sh", { args, stdin: "null" }).output();
    const { out } = await runToEnd(folder, ["--service", "a"], { shell: shell! });
    const expected = signalsOf(new TextDecoder().decode(stdout));
    assertEquals(Object.keys(expected).length, 3);
    assertEquals(signalsOf(out), expected);
  });
}

Deno.test("no descriptor but the standard three is handed over", async () => {
  await using folder = await folderOf({ command: ["ls", "-l", "/proc/self/fd"] });
  const { out } = await runToEnd(folder, ["--service", "a"]);
  const descriptors = out.trim().split("\n").slice(1).filter((line) => !/-> \/proc\/\d+\/fd/.test(line));
  assertEquals(descriptors.length, 3, out);
});

Deno.test("the service gets its folder, .env over the process environment, PYTHONPATH and PYTHONUNBUFFERED", async () => {
  const script =
    'pwd; echo "$FROM_FILE $FROM_BOTH $FROM_PROCESS $OWN"; echo "$PYTHONPATH $PYTHONUNBUFFERED"; echo "$A_PORT"';
  await using folder = await folderOf({
    command: script,
    working_dir: "services/a",
    environment: { OWN: "own ${FROM_FILE}" },
    port: 9_001,
    port_env: "A_PORT",
  }, { FROM_FILE: "file", FROM_BOTH: "file wins" });
  await folder.write("services/a/here", "");
  const environment = {
    FROM_BOTH: "process",
    FROM_PROCESS: "process",
    PYTHONPATH: "/kept/behind",
    A_PORT: undefined,
  };
  const { out, err } = await runToEnd(folder, ["--service", "a"], { environment });
  assertEquals(out.split("\n").slice(0, 4), [
    `${folder.path}/services/a`,
    "file file wins process own file",
    `${folder.path}:/kept/behind 1`,
    "9001",
  ]);
  assertEquals(err, "");
});

Deno.test("an empty PYTHONPATH adds no empty entry", async () => {
  await using folder = await folderOf({ command: 'echo "$PYTHONPATH"' });
  const { out } = await runToEnd(folder, ["--service", "a"], { environment: { PYTHONPATH: "" } });
  assertEquals(out.trim(), folder.path);
});

Deno.test("what this program and its runtime need for themselves is not handed over", async () => {
  await using folder = await folderOf({ command: "env" });
  await using clean = new Run(folder, ["--service", "a"], { environment: { ONLY: "x" } });
  await clean.code();
  const added = clean.out.lines.map((line) => line.split("=")[0]).filter((name) =>
    !(name! in Deno.env.toObject())
  );
  const own = [
    "ONLY",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "DENO_NO_UPDATE_CHECK",
    "ORCHESTRATOR_TEST_MARK",
    "PWD",
    "OLDPWD",
    "_",
  ];
  assertEquals(added.filter((name) => !own.includes(name!)), []);
});

Deno.test("a Python service runs by the interpreter of the folder, and imports what is shared", async () => {
  await using folder = await folderOf({
    command: ["python", "main.py", "with spaces", "жук"],
    working_dir: "services/a/src",
  });
  await folder.write(
    "services/a/src/main.py",
    "import sys, os\nfrom shared.greeting import GREETING\nprint(GREETING, sys.argv[1:], os.getpid())\nsys.exit(3)\n",
  );
  await folder.write("shared/greeting.py", "GREETING = 'hello'\n");
  await using run = new Run(folder, ["--service", "a"]);
  assertEquals(await run.code(), 3, run.err.text);
  assertEquals(run.out.text, `hello ['with spaces', 'жук'] ${run.pid}\n`);
});

Deno.test("the folder's venv comes first", async () => {
  await using folder = await folderOf({ command: ["python", "-c", "1"] });
  await folder.write("venv/bin/python", '#!/bin/sh\necho "venv $*"\n');
  await Deno.chmod(`${folder.path}/venv/bin/python`, 0o755);
  const { out } = await runToEnd(folder, ["--service", "a"]);
  assertEquals(out, "venv -c 1\n");
});

Deno.test("dependencies are not started", async () => {
  const services = [
    { name: "db", command: "echo db up; exec sleep 1000" },
    { name: "web", command: "echo web alone", dependencies: ["db"] },
  ];
  await using folder = await Folder.make({ services });
  const { code, out } = await runToEnd(folder, ["--service", "web"]);
  assertEquals([code, out], [0, "web alone\n"]);
});

Deno.test("a taken port is the service's own business", async () => {
  const port = freePort();
  using _taken = Deno.listen({ hostname: "127.0.0.1", port });
  await using folder = await folderOf({ command: "echo started", port });
  assertEquals((await runToEnd(folder, ["--service", "a"])).out, "started\n");
});

for (
  const [what, service, args, message] of [
    [
      "an unknown name",
      { name: "web" },
      ["--service", "wbe"],
      'There is no service "wbe"; did you mean "web"? The services are web.',
    ],
    ["no name", {}, ["--service"], "--service needs a value; for example --service web."],
    [
      "both ways at once",
      {},
      ["--service", "a", "--services", "a"],
      "--service runs one service in the foreground, --services several; give one of them.",
    ],
    [
      "a missing folder",
      { working_dir: "no/such" },
      ["--service", "a"],
      'Cannot start "a": its working folder DIR/no/such does not exist.',
    ],
    [
      "a missing entry point",
      { command: ["python", "main.py"] },
      ["--service", "a"],
      'Cannot start "a": its entry point DIR/main.py does not exist.',
    ],
    [
      "a missing program",
      { command: ["no-such-program"] },
      ["--service", "a"],
      'Cannot start "a": there is no program no-such-program on PATH; install it or correct its command.',
    ],
    [
      "a missing setting",
      { env_required: ["TOKEN"] },
      ["--service", "a"],
      'Cannot start "a": it needs TOKEN; set it in DIR/.env.',
    ],
    [
      "a program that is none",
      { command: ["./data.txt"] },
      ["--service", "a"],
      "Cannot start DIR/data.txt with 0 arguments: the system refused; check that it is a program.",
    ],
    [
      "an external service",
      { kind: "external", command: undefined, health: { tcp: 1 } },
      ["--service", "a"],
      '"a" is external: it is waited for, not started.',
    ],
    [
      "a bad port",
      { port: 80, port_env: "A_PORT" },
      ["--service", "a"],
      'Cannot use A_PORT, the port of "a": its value is not a whole number from 1 to 65535.',
    ],
    [
      "a missing .env given by name",
      {},
      ["--service", "a", "--env-file", "none.env"],
      "There is no file DIR/none.env; check what --env-file names.",
    ],
  ] as [string, Partial<ServiceFields>, string[], string][]
) {
  Deno.test(`${what} is reported in a sentence with status 2`, async () => {
    await using folder = await folderOf(
      { command: ["true"], ...service },
      what === "a bad port" ? { A_PORT: "8o" } : {},
    );
    await folder.write("data.txt", "not a program\n");
    const { code, out, err } = await runToEnd(folder, args);
    assertEquals([code, out], [2, ""]);
    assertEquals(err.replaceAll(folder.path, "DIR"), `orchestrator: ${message}\n`);
  });
}

Deno.test("without any Python the error shows how to make a venv", async () => {
  await using folder = await folderOf({ command: ["python", "-c", "1"] }, { PATH: "/nowhere" });
  const { code, err } = await runToEnd(folder, ["--service", "a"], {
    environment: { VIRTUAL_ENV: undefined },
  });
  const message = 'Cannot start "a": there is no Python; install python3, then make a venv with: ' +
    `python3 -m venv ${folder.path}/venv.`;
  assertEquals([code, err], [2, `orchestrator: ${message}\n`]);
});

const missing = whyNoTerminal();
Deno.test({
  name: `the service has the terminal: it reads keys, and Ctrl+C and Ctrl+Z are its own${
    missing === null ? "" : ` (ignored: ${missing})`
  }`,
  ignore: missing !== null,
  fn: async () => {
    await using folder = await folderOf({
      command: 'test -t 0 && test -t 1 && echo on a terminal; read word; echo "read $word"; exec sleep 1000',
    });
    await using terminal = await TestTerminal.open();
    await terminal.type(commandLine("--service", "a", "--infrastructure", folder.path));
    await terminal.shows("on a terminal");
    await terminal.type("hello");
    await terminal.shows("read hello");
    await terminal.keys("C-z");
    await terminal.ready();
    await terminal.type("fg");
    const service = processesWith(terminal.mark).find(({ command }) => command === "sleep 1000")!;
    const hasTerminal = () => {
      const process = readProcess(service.pid);
      return process !== null && process.terminalGroup === process.group;
    };
    await waitUntil(hasTerminal, "it is in the foreground again");
    await terminal.keys("C-c");
    await waitUntil(
      async () => (await terminal.run("echo status $?")).includes("status 130"),
      "SIGINT ended it",
    );
  },
});

// Options.

for (
  const [text, bytes] of [["2048", 2_048], ["64KiB", 65_536], ["10MiB", 10_485_760], ["1.5k", 1_536], [
    "1G",
    1_073_741_824,
  ]] as const
) {
  Deno.test(`a size of ${text} is ${bytes} bytes`, () => assertEquals(parseSize(text), bytes));
}

for (const text of ["", "1", "ten", "-5k", "5 parsecs"]) {
  Deno.test(`"${text}" is refused as a size`, () => {
    assertEquals(
      assertThrows(() => parseSize(text), UserError).message,
      `"${text}" is not a size for --log-size; use 1KiB or more, for example 10MiB.`,
    );
  });
}

// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { findHome } from "../config/settings.ts";
import { isPortFree } from "../process/ports.ts";
import { checkInfrastructure, checkText } from "./check.ts";

/** Checks a folder with these files. Paths in findings begin with `.` there. */
async function check(
  files: Record<string, string>,
  prepare: (folder: string) => Promise<void> = () => Promise.resolve(),
) {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.writeTextFile(`${folder}/${path}`, text);
    }
    await prepare(folder);
    const home = findHome({ infrastructure: folder });
    const report = await checkInfrastructure(home);
    const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
    return { ...report, text: checkText(report).replaceAll(folder, "."), names };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const services = (...list: object[]) => JSON.stringify({ services: list });

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("a folder in order has no errors, and its status is 0", async () => {
  const { text, status } = await check({
    ".env": "TOKEN=hunter2\n",
    "services.json": services(
      { name: "a", command: ["python", "main.py"], port: freePort(), env_required: ["TOKEN"] },
      { name: "b", command: "echo ${WHATEVER}", dependencies: ["a"] },
      { name: "c", kind: "external", health: { tcp: 1 }, port: 1 },
    ),
    "main.py": "",
  });
  assertEquals([text, status], ["No errors; 3 services checked.", 0]);
});

Deno.test("everything that would fail is found at once, and the status is 2", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const shared = freePort();
  const { text, status } = await check({
    ".env": `this is no assignment\nTOKEN=hunter2\nBAD_PORT=hunter2\nB_PORT=${shared}\nC_PORT=${shared}\n`,
    "services.json": services(
      { name: "taken", command: "x", port, env_required: ["TOKEN", "OTHER", "THIRD"] },
      { name: "bad", command: "x", port_env: "BAD_PORT" },
      {
        name: "b",
        command: ["python", "gone.py"],
        port_env: "B_PORT",
        environment: { A: "${NOWHERE}/${PORT}" },
      },
      { name: "c", command: ["no-such-program-here"], port_env: "C_PORT" },
      { name: "d", command: ["./plain.txt"] },
      { name: "e", command: ["./gone"] },
      { name: "f", command: "x", working_dir: "gone" },
    ),
    "plain.txt": "",
  });
  assertEquals(status, 2);
  assertEquals(
    text.replace(/PID \d+ \(.*\)/, "PID 1 (x)").split("\n"),
    [
      "warning: environment: ./.env:1 is not NAME=value and is skipped.",
      `error: taken: port ${port} is taken by ${
        Deno.build.os === "linux" ? "PID 1 (x)" : "another process"
      }; stop it or change the port.`,
      "error: taken: OTHER, THIRD must be set; add a line for each to ./.env.",
      'error: bad: Cannot use BAD_PORT, the port of "bad": its value is not a whole number from 1 to 65535.',
      "warning: b: ${NOWHERE} is not set (expands to an empty string).",
      "error: b: its entry point ./gone.py does not exist.",
      `error: c: port ${shared} is also the port of "b"; change C_PORT.`,
      "error: c: there is no program no-such-program-here on PATH; install it or correct its command.",
      "error: d: ./plain.txt may not be executed; chmod +x it.",
      "error: e: there is no program ./gone; install it or correct its command.",
      "error: f: its working folder ./gone does not exist.",
      "9 errors, 2 warnings; 7 services checked.",
    ],
  );
});

Deno.test("errors of the services file and an unreadable .env are reported together", async () => {
  const { text } = await check({
    "services.yaml": "services:\n  - name: a\n    port: x\n  - nam: b\n",
    ".env/x": "",
  });
  const command = "command: missing; use a list of words, or a text for /bin/sh -c";
  const name =
    "name: missing; use a name without spaces, commas and slashes, at most 60 characters, that does " +
    "not begin with - or .";
  assertEquals(text.split("\n"), [
    `error: services file: ./services.yaml:2:5 services[0].${command}`,
    'error: services file: ./services.yaml:3:5 services[0].port: "x" is not allowed; use a whole number from 1 to 65535',
    `error: services file: ./services.yaml:4:5 services[1].${name}`,
    'error: services file: ./services.yaml:4:5 services[1].nam: not a known field; did you mean "name"?',
    `error: services file: ./services.yaml:4:5 services[1].${command}`,
    "error: environment: Cannot read ./.env: it is a folder; name a file.",
    "6 errors, 0 warnings; 0 services checked.",
  ]);
});

Deno.test("a venv older than requirements.txt, or none for its packages, is a warning", async () => {
  const files = {
    "services.json": services({ name: "a", command: ["python", "main.py"] }),
    "main.py": "",
    ".env": "",
    "requirements.txt": "# packages\nx\n",
  };
  const sum = "0 errors, 1 warning; 1 service checked.";
  if (!Deno.env.has("VIRTUAL_ENV")) {
    const none = "./requirements.txt names packages, and there is no venv for them; run orchestrator setup.";
    assertEquals((await check(files)).text, `warning: python: ${none}\n${sum}`);
  }
  const old = await check(files, async (folder) => {
    await Deno.mkdir(`${folder}/venv/bin`, { recursive: true });
    await Deno.writeTextFile(`${folder}/venv/bin/python`, "");
    await Deno.writeTextFile(`${folder}/venv/pyvenv.cfg`, "");
    await Deno.utime(`${folder}/venv/pyvenv.cfg`, 1, 1);
  });
  const newer = "./requirements.txt is newer than ./venv; run orchestrator setup.";
  assertEquals([old.status, old.text], [0, `warning: python: ${newer}\n${sum}`]);
});

Deno.test("a check starts nothing and leaves no listener behind", async () => {
  const port = freePort();
  const file = services({ name: "a", command: "touch started", port });
  const { status, names } = await check({ ".env": "", "services.json": file });
  assertEquals([status, names], [0, [".env", "services.json"]]);
  assert(isPortFree(port));
});

// @ts-types="./std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { UserError } from "./errors.ts";
import { entryPoint, findPython, portOf, prepareLaunch, serviceEnvironment } from "./launch.ts";
import { findHome } from "./settings.ts";
import { SERVICES } from "../services.ts";
import { Folder } from "../testing/run.ts";
import { define, HOME } from "../testing/services.ts";

for (
  const [text, port] of [
    ["1", 1],
    ["80", 80],
    [" 8001 ", 8001],
    ["65535", 65_535],
    ["", 9000],
    [undefined, 9000],
    ["0", null],
    ["65536", null],
    ["100000", null],
    ["-1", null],
    ["80.5", null],
    ["8e3", null],
    ["0x50", null],
    ["s3cret", null],
  ] as const
) {
  Deno.test(`a port setting of ${text === undefined ? "nothing" : `"${text}"`} is ${port ?? "refused"}`, () => {
    const service = define({ port: 9000, portEnv: "A_PORT" });
    const environment: Record<string, string> = text === undefined ? {} : { A_PORT: text };
    if (port !== null) return assertEquals(portOf(service, environment), port);
    const { message } = assertThrows(() => portOf(service, environment), UserError);
    assertEquals(
      message,
      'Cannot use A_PORT, the port of "a": its value is not a whole number from 1 to 65535.',
    );
  });
}

for (
  const [what, fields, environment, name, value] of [
    ["Python looks in the infrastructure folder", {}, {}, "PYTHONPATH", "/infra"],
    ["a PYTHONPATH is kept behind it", {}, { PYTHONPATH: "/x:/y" }, "PYTHONPATH", "/infra:/x:/y"],
    ["Python does not hold back its output", {}, { PYTHONUNBUFFERED: "" }, "PYTHONUNBUFFERED", "1"],
    ["a default port is handed on", { port: 8001, portEnv: "A_PORT" }, {}, "A_PORT", "8001"],
    ["a set port is handed on", { port: 8001, portEnv: "A_PORT" }, { A_PORT: "9" }, "A_PORT", "9"],
    ["its own settings win", { environment: { LEVEL: "info" } }, { LEVEL: "debug" }, "LEVEL", "info"],
    [
      "its settings know the others",
      { environment: { URL: "x://${NAME}/" } },
      { NAME: "n" },
      "URL",
      "x://n/",
    ],
    ["its settings know its port", { port: 81, environment: { URL: ":${PORT}" } }, {}, "URL", ":81"],
    ["what is not set expands to nothing", { environment: { URL: "a${NONE}b" } }, {}, "URL", "ab"],
  ] as const
) {
  Deno.test(`environment of a service: ${what}`, () => {
    assertEquals(serviceEnvironment(define(fields), environment, HOME)[name], value);
  });
}

Deno.test("variables that a service requires are all named when they are missing or empty", () => {
  const service = define({ envRequired: ["TOKEN", "PATH", "KEY"] });
  const { message } = assertThrows(
    () => serviceEnvironment(service, { PATH: "/bin", KEY: "" }, HOME),
    UserError,
  );
  assertEquals(message, 'Cannot start "a": it needs TOKEN, KEY; set them in /infra/.env.');
});

Deno.test("python is the first there is of venv, .venv, the active one, python3 and python", async () => {
  await using folder = await Folder.make();
  const at = (path: string) => `${folder.path}/${path}`;
  const environment = { PATH: at("bin"), VIRTUAL_ENV: at("active") };
  const found = () => findPython(folder.path, environment);
  assertEquals(found(), null);
  for (
    const path of ["bin/python", "bin/python3", "active/bin/python", ".venv/bin/python", "venv/bin/python"]
  ) {
    await folder.write(path, "");
    assertEquals(found(), at(path));
  }
});

for (
  const [what, fields, reason] of [
    ["working folder", { workingDir: "gone" }, "its working folder FOLDER/gone does not exist"],
    [
      "working folder that is a file",
      { workingDir: ".env" },
      "its working folder FOLDER/.env does not exist",
    ],
    ["entry point", { command: ["python", "main.py"] }, "its entry point FOLDER/main.py does not exist"],
    [
      "interpreter",
      { command: ["python", ".env"] },
      "there is no Python; install python3, then make a venv with: python3 -m venv FOLDER/venv",
    ],
    [
      "program",
      { command: ["nosuch"] },
      "there is no program nosuch on PATH; install it or correct its command",
    ],
    [
      "program of its own",
      { command: ["./nosuch"] },
      "there is no program ./nosuch; install it or correct its command",
    ],
  ] as const
) {
  Deno.test(`a missing ${what} is reported in a sentence that names the service`, async () => {
    await using folder = await Folder.make();
    const home = findHome({ infrastructure: folder.path });
    const { message } = assertThrows(
      () => prepareLaunch(define(fields), { PATH: "/nowhere" }, home),
      UserError,
    );
    assertEquals(message.replaceAll(folder.path, "FOLDER"), `Cannot start "a": ${reason}.`);
  });
}

Deno.test("a text is run by the shell, words of a list and the folder are expanded", async () => {
  await using folder = await Folder.make({ files: { "deep/x": "" } });
  const home = findHome({ infrastructure: folder.path });
  const environment = { PATH: "/bin", WHERE: "deep" };
  const shell = prepareLaunch(define({ command: "echo $HOME" }), environment, home);
  assertEquals([shell.program, ...shell.args], ["/bin/sh", "-c", "echo $HOME"]);
  const service = define({ command: ["sh", "-c", "${PORT}"], port: 99, workingDir: "${WHERE}" });
  const listed = prepareLaunch(service, environment, home);
  assertEquals([listed.program, ...listed.args], ["/bin/sh", "-c", "99"]);
  assertEquals([listed.cwd, listed.port], [`${folder.path}/deep`, 99]);
});

Deno.test("an entry point is shown as a path from the infrastructure folder", () => {
  assertEquals(SERVICES.map(entryPoint), [
    "services/database_service/src/main.py",
    "services/web_service/src/main.py",
    "services/bot_service/src/main.py",
  ]);
  assertEquals(entryPoint(define({ command: ["npm", "start"] })), "npm start");
  assertEquals(entryPoint(define({ command: ["python", "main.py"] })), "main.py");
});

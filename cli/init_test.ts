// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { readServicesFile } from "../config/file.ts";
import { UserError } from "../config/errors.ts";
import { initServices } from "./init.ts";

/** Makes these files in a temporary folder, uses it, and removes it. */
async function inFolder<T>(files: Record<string, string>, use: (folder: string) => Promise<T>): Promise<T> {
  const root = await Deno.makeTempDir();
  const infrastructure = `${root}/nord city`;
  try {
    await Deno.mkdir(infrastructure);
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${infrastructure}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.writeTextFile(`${infrastructure}/${path}`, text);
    }
    return await use(infrastructure);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const startable = JSON.stringify({ scripts: { start: "node server.js" } });

Deno.test("init writes a services.yaml that is valid from whatever it finds, and names what it guessed", async () => {
  const files = {
    "services/database_service/src/main.py": "",
    "services/web_service/src/main.py": "",
    "services/web_service/main.py": "", // the same folder holds two entry points: two services
    "api/main.py": "",
    "admin/app.py": "",
    "front/package.json": startable,
    "front/pnpm-lock.yaml": "",
    "library/package.json": "{}",
    "broken/package.json": "{",
    "node_modules/x/main.py": "",
    "venv/main.py": "",
    ".git/main.py": "",
    "app.py": "",
    ".env":
      "DATABASE_SERVICE_PORT=8001\nWEB_SERVICE_PORT=8001\nAPI_PORT=soon\nBOT_SERVICE_PORT=8003\nTOKEN=hunter2\n",
  };
  await inFolder(files, async (infrastructure) => {
    const { path, text, guesses } = await initServices({ infrastructure });
    assertEquals(path, `${infrastructure}/services.yaml`);
    assertEquals(await Deno.readTextFile(path), text);
    const services = await readServicesFile(path);
    assertEquals(
      services.map(({ name, title, command, workingDir, port, portEnv }) => ({
        name,
        title,
        command,
        workingDir,
        port,
        portEnv,
      })),
      [
        {
          name: "database",
          title: "Database Service",
          command: ["python", "main.py"],
          workingDir: "services/database_service/src",
          port: 8001,
          portEnv: "DATABASE_SERVICE_PORT",
        },
        {
          name: "web",
          title: "Web Service",
          command: ["python", "main.py"],
          workingDir: "services/web_service/src",
          port: null,
          portEnv: "WEB_SERVICE_PORT",
        },
        {
          name: "web-2",
          title: "Web Service",
          command: ["python", "main.py"],
          workingDir: "services/web_service",
          port: null,
          portEnv: null,
        },
        {
          name: "admin",
          title: "Admin",
          command: ["python", "app.py"],
          workingDir: "admin",
          port: null,
          portEnv: null,
        },
        {
          name: "api",
          title: "Api",
          command: ["python", "main.py"],
          workingDir: "api",
          port: null,
          portEnv: "API_PORT",
        },
        {
          name: "front",
          title: "Front",
          command: ["pnpm", "start"],
          workingDir: "front",
          port: null,
          portEnv: null,
        },
        {
          name: "nord-city",
          title: "Nord City",
          command: ["python", "app.py"],
          workingDir: ".",
          port: null,
          portEnv: null,
        },
      ],
    );
    assertEquals(guesses, [
      "database: python main.py in services/database_service/src, port 8001 (DATABASE_SERVICE_PORT)",
      "web: python main.py in services/web_service/src, port ? (WEB_SERVICE_PORT)",
      "web-2: python main.py in services/web_service",
      "admin: python app.py in admin",
      "api: python main.py in api, port ? (API_PORT)",
      "front: pnpm start in front",
      "nord-city: python app.py in the folder itself",
      "WEB_SERVICE_PORT and DATABASE_SERVICE_PORT are the same port: give each its own.",
      `API_PORT in ${infrastructure}/.env is not a port: correct it, or add port.`,
      `BOT_SERVICE_PORT in ${infrastructure}/.env belongs to no service that was found.`,
      `${infrastructure}/services.schema.json lets your editor complete and check services.yaml.`,
      "Dependencies can't be detected: add them, then run orchestrator check.",
    ]);
    assert(!`${guesses.join()}${text}`.includes("hunter2"), "no value of .env but ports is repeated");
  });
});

Deno.test("folders with any name make a file that is valid", async () => {
  const names = [
    "true",
    "1.5",
    "- x",
    "a: b",
    "#",
    "a,b c",
    "…",
    "сервис",
    "🚀",
    "__proto__",
    "Orchestrator",
    "quote\"'",
    "line\nbreak",
    "x".repeat(200),
    "service",
    "-",
    "null",
    "*a",
    "&b",
    "{c}",
    "%d",
    "@e",
    "|",
    "~",
    "a\\b",
  ];
  const files = Object.fromEntries(names.map((name) => [`${name}/main.py`, ""]));
  await inFolder(files, async (infrastructure) => {
    const { path } = await initServices({ infrastructure });
    const services = await readServicesFile(path);
    assertEquals(services.map(({ workingDir }) => workingDir).sort(), names.toSorted());
  });
});

Deno.test("the first line shows editors where the schema is: the program's, or a copy beside the file", async () => {
  await inFolder({ "main.py": "" }, async (infrastructure) => {
    const { text, guesses } = await initServices({ infrastructure });
    assertMatch(text, /^# yaml-language-server: \$schema=services\.schema\.json\n/);
    assertStringIncludes(guesses.join("\n"), "services.schema.json lets your editor");
    assertEquals(
      await Deno.readTextFile(`${infrastructure}/services.schema.json`),
      await Deno.readTextFile(new URL("../services.schema.json", import.meta.url)),
    );
    assertEquals(Array.from(Deno.readDirSync(infrastructure), ({ name }) => name).sort(), [
      "main.py",
      "services.schema.json",
      "services.yaml",
    ]);
  });
  await inFolder({ "main.py": "" }, async (infrastructure) => {
    await Deno.writeTextFile(`${infrastructure}/../services.schema.json`, "{}");
    const { text } = await initServices({ infrastructure });
    assertMatch(text, /^# yaml-language-server: \$schema=\.\.\/services\.schema\.json\n/);
  });
});

for (const name of ["services.yaml", "services.yml", "services.json"]) {
  Deno.test(`an existing ${name} is left as it is`, async () => {
    await inFolder({ [name]: "mine", "main.py": "" }, async (infrastructure) => {
      const error = await assertRejects(() => initServices({ infrastructure }), UserError);
      const path = `${infrastructure}/${name}`;
      assertEquals(error.message, `There is a services file already: ${path}; init leaves it as it is.`);
      assertEquals(await Deno.readTextFile(`${infrastructure}/${name}`), "mine");
    });
  });
}

Deno.test("two runs at once write one file, and one of them reports that it was there", async () => {
  await inFolder({ "main.py": "", "services.schema.json": "{}" }, async (infrastructure) => {
    const runs = await Promise.allSettled([
      initServices({ infrastructure }),
      initServices({ infrastructure }),
    ]);
    assertEquals(runs.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assertEquals((await readServicesFile(`${infrastructure}/services.yaml`)).length, 1);
    assertEquals(Array.from(Deno.readDirSync(infrastructure)).length, 3);
  });
});

Deno.test("a folder with nothing to start reports what was looked for", async () => {
  await inFolder({ "readme.txt": "" }, async (infrastructure) => {
    const error = await assertRejects(() => initServices({ infrastructure }), UserError);
    const message =
      `Found nothing to start in ${infrastructure}: looked for services/*/src/main.py, */main.py, ` +
      "app.py and package.json with a start script; docs/services.md explains how to write services.yaml by hand.";
    assertEquals(error.message, message);
  });
});

Deno.test("ports are taken from .env.example where there is no .env; an unreadable one is only mentioned", async () => {
  await inFolder({ "api/main.py": "", ".env.example": "API_SERVICE_PORT=9000" }, async (infrastructure) => {
    assertStringIncludes(
      (await initServices({ infrastructure })).text,
      "    port: 9000\n    port_env: API_SERVICE_PORT\n",
    );
  });
  await inFolder({ "api/main.py": "", ".env/x": "" }, async (infrastructure) => {
    assertStringIncludes(
      (await initServices({ infrastructure })).guesses.join("\n"),
      "No ports: Cannot read",
    );
  });
});

// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { parseDotenv } from "../config/dotenv.ts";
import { SERVICES } from "../services.ts";

const INFRASTRUCTURE = import.meta.dirname!;
/** The worst case, never the pace. */
const LIMIT_MS = 60_000;

type Name = "database" | "web" | "bot";
interface Settings extends Record<string, string> {
  DATABASE_SERVICE_PORT: string;
  WEB_SERVICE_PORT: string;
}

/** A running service of ours: its output is read to the end, and it does not outlive its test. */
class Running implements AsyncDisposable {
  #child: Deno.ChildProcess;
  #ended: Promise<Deno.CommandStatus>;
  #heard = Promise.withResolvers<void>();
  #over = false;
  output = "";

  constructor(name: Name, settings: Record<string, string>, home = INFRASTRUCTURE) {
    this.#child = new Deno.Command("python3", {
      args: ["main.py"],
      cwd: `${home}/services/${name}_service/src`,
      env: settings,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const pipes = [this.#child.stdout, this.#child.stderr].map((pipe) => this.#read(pipe));
    this.#ended = Promise.all(pipes).then(() => this.#child.status);
    this.#ended.then(() => {
      this.#over = true;
      this.#heard.resolve();
    });
  }

  async #read(pipe: ReadableStream<Uint8Array<ArrayBuffer>>) {
    for await (const text of pipe.pipeThrough(new TextDecoderStream())) {
      this.output += text;
      this.#heard.resolve();
      this.#heard = Promise.withResolvers();
    }
  }

  /** Waits until `pattern` is in the output. */
  async prints(pattern: RegExp): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), LIMIT_MS);
    limit.signal.onabort = () => this.#heard.resolve();
    while (!pattern.test(this.output)) {
      if (this.#over || limit.signal.aborted) throw new Error(`never printed ${pattern}:\n${this.output}`);
      await this.#heard.promise;
    }
    clearTimeout(timer);
  }

  signal(name: Deno.Signal) {
    this.#child.kill(name);
  }

  exit(): Promise<Deno.CommandStatus> {
    return this.#ended;
  }

  async [Symbol.asyncDispose]() {
    if (!this.#over) this.signal("SIGKILL");
    await this.#ended;
  }
}

async function endsCleanly(service: Running, signal: Deno.Signal = "SIGTERM") {
  service.signal(signal);
  assertEquals(await service.exit(), { success: true, code: 0, signal: null });
  assertMatch(service.output, /- INFO - Stopped\n$/);
  assertNotMatch(service.output, /Traceback/);
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Settings that share nothing with another test or with a Nord City someone runs on this machine. */
function ownSettings(folder: string): Settings {
  return {
    DATABASE_SERVICE_PORT: `${freePort()}`,
    WEB_SERVICE_PORT: `${freePort()}`,
    DATABASE_FILE: `${folder}/requests.sqlite`,
    BOT_POLL_SECONDS: "1",
  };
}

function temporaryFolder(): { path: string } & Disposable {
  const path = Deno.makeTempDirSync();
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

async function ask(
  port: string,
  path: string,
  init?: RequestInit,
): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { redirect: "manual", ...init });
  return { status: response.status, text: await response.text() };
}

function copyFolder(from: string, to: string) {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (["data", "__pycache__", "venv", ".venv"].includes(name)) continue;
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

Deno.test("a request travels from the web service through the database service to the bot", async () => {
  using folder = temporaryFolder();
  const settings: Settings = { ...ownSettings(folder.path), PYTHONPATH: INFRASTRUCTURE };
  await using database = new Running("database", settings);
  await database.prints(
    /INFO - Database connected, 0 requests in .*\n.*INFO - Database service started on port \d+\n/,
  );
  await using web = new Running("web", settings);
  await using bot = new Running("bot", settings);
  await web.prints(/INFO - Web service started on port \d+\n/);
  await bot.prints(
    /INFO - Bot polling started, every 1 s\n(.*\n)*.*INFO - Polled the database service: 0 new\n/,
  );

  const form = new URLSearchParams({ author: "Анна <b>", text: "🔄 fix\nthe\x1b[2Jlamp" });
  assertEquals(await ask(settings.WEB_SERVICE_PORT, "/requests", { method: "POST", body: form }), {
    status: 303,
    text: "",
  });
  await bot.prints(/INFO - To the people on duty: Анна <b> asks: 🔄 fix the \[2Jlamp\n.*: 1 new\n/);

  const listed = JSON.parse((await ask(settings.WEB_SERVICE_PORT, "/requests")).text);
  assertEquals([listed[0].author, listed[0].text, listed[0].taken], ["Анна <b>", "🔄 fix the [2Jlamp", true]);
  const page = await ask(settings.WEB_SERVICE_PORT, "/");
  assertStringIncludes(page.text, "<b>Анна &lt;b&gt;</b>: 🔄 fix the [2Jlamp (taken)");
  for (const port of [settings.DATABASE_SERVICE_PORT, settings.WEB_SERVICE_PORT]) {
    assertStringIncludes((await ask(port, "/health")).text, '"status": "ok"');
  }

  for (const service of [bot, web, database]) {
    for (const line of service.output.trimEnd().split("\n")) {
      assertMatch(line, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (INFO|WARNING) - \S/);
      assertNotMatch(line, /GET \/health/);
    }
    await endsCleanly(service);
  }

  await using again = new Running("database", settings);
  await again.prints(/Database connected, 1 requests in/);
  await endsCleanly(again, "SIGINT");
});

Deno.test("each service runs by hand from its own folder, and the data stays in the infrastructure folder", async () => {
  using folder = temporaryFolder();
  const home = `${folder.path}/city`;
  copyFolder(INFRASTRUCTURE, home);
  const settings: Settings = { ...ownSettings(folder.path), DATABASE_FILE: "", PYTHONPATH: "" };
  await using database = new Running("database", settings, home);
  await database.prints(/Database service started/);
  await using web = new Running("web", settings, home);
  await using bot = new Running("bot", settings, home);
  await web.prints(/Web service started/);
  await bot.prints(/Polled the database service: 0 new/);
  assertEquals((await ask(settings.WEB_SERVICE_PORT, "/requests")).text, "[]\n");
  assert(Deno.statSync(`${home}/data/nord_city.sqlite`).isFile);
  for (const service of [bot, web, database]) await endsCleanly(service);
});

Deno.test("without a database the bot and the web service log it, go on, and find it when it comes", async () => {
  using folder = temporaryFolder();
  const settings = ownSettings(folder.path);
  await using bot = new Running("bot", settings);
  await using web = new Running("web", settings);
  await bot.prints(
    /(WARNING - No answer from the database service on port \d+: Connection refused; next try in 1 s\n[^]*){2}/,
  );
  await web.prints(/Web service started/);
  for (const path of ["/", "/requests"]) {
    assertEquals((await ask(settings.WEB_SERVICE_PORT, path)).status, 503);
  }
  assertEquals((await ask(settings.WEB_SERVICE_PORT, "/health")).status, 200);
  await web.prints(/WARNING - No answer from the database service on port \d+: Connection refused\n/);

  await using database = new Running("database", settings);
  await bot.prints(/Polled the database service: 0 new/);
  assertEquals((await ask(settings.WEB_SERVICE_PORT, "/")).status, 200);
  for (const service of [bot, web, database]) await endsCleanly(service);
});

Deno.test("SIGTERM in the middle of a request that is soon answered lets the answer out, then ends with status 0", async () => {
  using folder = temporaryFolder();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Response>();
  await using database = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    asked.resolve();
    return answer.promise;
  });
  using _release = { [Symbol.dispose]: () => answer.resolve(new Response()) }; // or the server would wait for ever
  const settings = { ...ownSettings(folder.path), DATABASE_SERVICE_PORT: `${database.addr.port}` };
  await using web = new Running("web", settings);
  await web.prints(/Web service started/);
  const answered = ask(settings.WEB_SERVICE_PORT, "/requests");
  await asked.promise;
  web.signal("SIGTERM");
  answer.resolve(Response.json([]));
  assertEquals(await answered, { status: 200, text: "[]\n" });
  assertEquals((await web.exit()).code, 0);
  assertMatch(web.output, /GET \/requests 200\n.*Stopped\n$/);
});

Deno.test("SIGTERM in the middle of a request that is never answered ends the bot and the web service with status 0", async () => {
  using folder = temporaryFolder();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const settings = { ...ownSettings(folder.path), DATABASE_SERVICE_PORT: `${silent.addr.port}` };
  await using bot = new Running("bot", settings);
  await using web = new Running("web", settings);
  await web.prints(/Web service started/);
  const lost = ask(settings.WEB_SERVICE_PORT, "/").then(() => "answered", () => "lost");
  using _first = await silent.accept();
  using _second = await silent.accept(); // both are waiting now, for up to 3 s
  const before = performance.now();
  await Promise.all([endsCleanly(bot), endsCleanly(web)]);
  assert(performance.now() - before < 2_500, "they waited for the database service");
  assertEquals(await lost, "lost");
});

Deno.test("a setting that can't be used ends a service with a sentence that names it", async () => {
  using folder = temporaryFolder();
  const settings = ownSettings(folder.path);
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const wrong: [Name, Record<string, string>, RegExp][] = [
    [
      "database",
      { DATABASE_SERVICE_PORT: "80a" },
      /^DATABASE_SERVICE_PORT is not a whole number from 1 to 65535/,
    ],
    ["web", { WEB_SERVICE_PORT: "65536" }, /^WEB_SERVICE_PORT is not a whole number from 1 to 65535/],
    ["bot", { BOT_POLL_SECONDS: "0" }, /^BOT_POLL_SECONDS is not a whole number from 1 to 3600/],
    [
      "web",
      { WEB_SERVICE_PORT: `${taken.addr.port}` },
      /^Cannot listen on port \d+: Address already in use\.$/m,
    ],
    [
      "database",
      { DATABASE_FILE: folder.path },
      /^Cannot use \S+ as the database: unable to open database file/,
    ],
  ];
  for (const [name, setting, sentence] of wrong) {
    await using service = new Running(name, { ...settings, ...setting });
    assertEquals((await service.exit()).code, 1);
    assertMatch(service.output, sentence);
    assertNotMatch(service.output, /Traceback/);
  }
});

Deno.test("what the database service can't use it refuses, and goes on", async () => {
  using folder = temporaryFolder();
  const settings = ownSettings(folder.path);
  await using database = new Running("database", settings);
  await database.prints(/Database service started/);
  const table: [path: string, body: BodyInit | null, status: number][] = [
    ["/requests", '{"author": "Anna", "text": "a lamp"}', 201],
    ["/requests", "{", 400],
    ["/requests", new Uint8Array([0xff]), 400],
    ["/requests", "[]", 400],
    ["/requests", '{"author": "Anna", "text": ""}', 400],
    ["/requests", '{"author": "Anna", "text": "\\ud800\\u0000"}', 400],
    ["/requests", `{"author": "Anna", "text": "${"x".repeat(1001)}"}`, 400],
    ["/requests", "x".repeat(65_537), 413],
    ["/requests/take", null, 200],
    ["/health", null, 405],
    ["/nothing", null, 404],
  ];
  for (const [path, body, status] of table) {
    const answer = await ask(settings.DATABASE_SERVICE_PORT, path, { method: "POST", body });
    assertEquals([path, answer.status], [path, status], answer.text);
  }
  assertEquals(JSON.parse((await ask(settings.DATABASE_SERVICE_PORT, "/requests")).text).length, 1);
  using _connection = await Deno.connect({ port: Number(settings.DATABASE_SERVICE_PORT) }); // sends nothing, and stays open
  await endsCleanly(database);
});

Deno.test(".env.example shows the defaults of the registry", async () => {
  const { entries, skipped } = parseDotenv(await Deno.readTextFile(`${INFRASTRUCTURE}/.env.example`), {});
  assertEquals(skipped, []);
  for (const { portEnv, port } of SERVICES) {
    if (portEnv !== null) assertEquals(entries.get(portEnv), `${port}`);
  }
});

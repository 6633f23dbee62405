// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertRejects } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { isVenvOutdated, setupVenv } from "./setup.ts";

/** A temporary folder that goes away at the end of its block. */
async function folder() {
  const path = await Deno.realPath(await Deno.makeTempDir());
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const findProgram = (name: string, environment: Readonly<Record<string, string>>) =>
  (environment.PATH ?? "").split(":").map((folder) => `${folder}/${name}`).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false; // a test looks no closer
    }
  }) ?? null;

/** Writes an executable shell script. */
const script = (path: string, body: string) =>
  Deno.writeTextFile(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });

/** Runs a set-up in a folder where only these programs can be found; each notes its arguments in `calls`. */
async function setup(infrastructure: string, programs: Record<string, string>) {
  const bin = `${infrastructure}/.bin`;
  await Deno.mkdir(bin, { recursive: true });
  for (const [name, body] of Object.entries(programs)) {
    await script(`${bin}/${name}`, `echo "${name} $*" >> ${infrastructure}/calls\n${body}`);
  }
  const messages: string[] = [];
  const status = await setupVenv(
    infrastructure,
    { PATH: `${bin}:/usr/bin:/bin`, HOME: infrastructure },
    (name, environment) => name in programs ? findProgram(name, environment) : null,
    (text) => messages.push(text.replaceAll(infrastructure, ".")),
  );
  const calls = (await Deno.readTextFile(`${infrastructure}/calls`)).replaceAll(infrastructure, ".").trim()
    .split("\n");
  return { status, messages, calls };
}

/** Makes what `python3 -m venv` makes; the new python notes its calls, too. */
const MAKES_VENV = (exitOfPip = 0) =>
  `mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && printf '#!/bin/sh\\necho "venv-python $*" >> calls; exit ${exitOfPip}' > "$3/bin/python" && chmod +x "$3/bin/python"`;

Deno.test("a venv is made with Python and requirements.txt installed; the second run only updates", async () => {
  await using infrastructure = await folder();
  await Deno.writeTextFile(`${infrastructure.path}/requirements.txt`, "x");
  const first = await setup(infrastructure.path, { python3: MAKES_VENV() });
  assertEquals(first.status, 0);
  assertEquals(first.calls, ["python3 -m venv ./venv", "venv-python -m pip install -r ./requirements.txt"]);
  const messages = ["Making ./venv", "Installing ./requirements.txt into ./venv", "./venv is ready."];
  assertEquals(first.messages, messages);
  const second = await setup(infrastructure.path, {});
  assertEquals(second.calls.slice(2), ["venv-python -m pip install -r ./requirements.txt"]);
});

Deno.test("uv is used where it is installed, also into a .venv that is there already", async () => {
  await using infrastructure = await folder();
  await Deno.writeTextFile(`${infrastructure.path}/requirements.txt`, "x");
  const uv = `[ "$1" = pip ] || { mkdir -p "$2/bin" && touch "$2/pyvenv.cfg" "$2/bin/python"; }`;
  const first = await setup(infrastructure.path, { uv });
  assertEquals([first.status, ...first.calls], [
    0,
    "uv venv ./venv",
    "uv pip install --python ./venv/bin/python -r ./requirements.txt",
  ]);
  await Deno.rename(`${infrastructure.path}/venv`, `${infrastructure.path}/.venv`);
  const second = await setup(infrastructure.path, { uv });
  assertEquals(second.calls.at(-1), "uv pip install --python ./.venv/bin/python -r ./requirements.txt");
});

Deno.test("without requirements.txt only the venv is made", async () => {
  await using infrastructure = await folder();
  const { status, messages, calls } = await setup(infrastructure.path, { python3: MAKES_VENV() });
  assertEquals([status, calls.length], [0, 1]);
  assertEquals(messages.slice(1), ["./venv is ready; there is no ./requirements.txt to install."]);
});

Deno.test("a venv that could not be made is removed again, and the way out is named", async () => {
  await using infrastructure = await folder();
  const { status, messages } = await setup(infrastructure.path, {
    python3: `mkdir -p "$3/bin" && touch "$3/bin/python"; exit 1`,
  });
  assertEquals(status, 1);
  assertEquals(messages.slice(1), [
    "Could not make ./venv; on Debian and Ubuntu, Python needs the package python3-venv for it.",
  ]);
  assert(!Array.from(Deno.readDirSync(infrastructure.path), ({ name }) => name).includes("venv"));
});

Deno.test("an installation that failed is status 1", async () => {
  await using infrastructure = await folder();
  await Deno.writeTextFile(`${infrastructure.path}/requirements.txt`, "x");
  const { status, messages } = await setup(infrastructure.path, { python3: MAKES_VENV(3) });
  assertEquals(status, 1);
  assertEquals(
    messages.at(-1),
    "Could not install everything that ./requirements.txt names; the reason stands above.",
  );
});

Deno.test("without Python and uv it names what to install", async () => {
  await using infrastructure = await folder();
  const error = await assertRejects(() => setup(infrastructure.path, {}), UserError);
  const message = "There is no Python on PATH; install python3 (3.9 or newer) or uv, then run setup again.";
  assertEquals(error.message, message);
});

Deno.test("a venv is outdated when requirements.txt changed after the last installation, and no longer after setup", async () => {
  await using infrastructure = await folder();
  const { path } = infrastructure;
  assertEquals(isVenvOutdated(path, `${path}/venv`), false);
  await Deno.writeTextFile(`${path}/requirements.txt`, "x");
  assertEquals(isVenvOutdated(path, `${path}/venv`), false);
  await setup(path, { python3: MAKES_VENV() });
  assertEquals(isVenvOutdated(path, `${path}/venv`), false);
  const later = new Date(Date.now() + 60_000);
  await Deno.utime(`${path}/requirements.txt`, later, later);
  assertEquals(isVenvOutdated(path, `${path}/venv`), true);
  await Deno.mkdir(`${path}/venv/lib/python3.12/site-packages`, { recursive: true });
  const last = new Date(Date.now() + 120_000);
  await Deno.utime(`${path}/venv/lib/python3.12/site-packages`, last, last);
  assertEquals(isVenvOutdated(path, `${path}/venv`), false);
});

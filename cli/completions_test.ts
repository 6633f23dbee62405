// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { Folder, NOTHING_IGNORED, orchestratorCommand } from "../testing/run.ts";
import { quote, TestTerminal, whyNoTerminal } from "../testing/terminal.ts";
import { quick, Site } from "../testing/site.ts";
import { choicesFor } from "./completions.ts";
import { COMMANDS } from "./table.ts";

/** What every services file but `other.yaml` holds. */
const namesOf = (values: ReadonlyMap<string, string>) =>
  Promise.resolve(values.get("config") === "other.yaml" ? ["mail"] : ["db", "web", "worker"]);

const JOB = "submit status cancel history list approve retry";
const FIRST =
  "start up list status ps logs attach events restart stop down reload self-restart init check env " +
  "setup engine worker job workers completions help version";

for (
  const [line, expected] of [
    ["", FIRST],
    ["lo", "logs"],
    ["xyz", ""],
    ["xyz ", ""],
    ["restart ", "db web worker"],
    ["restart w", "web worker"],
    ["restart web ", "db worker"],
    ["restart --with-dependents d", "db"],
    ["up d", "db"],
    ["down d", "db"],
    ["env ", "db web worker"],
    ["env web ", ""],
    ["status ", ""],
    ["logs --fo", "--follow"],
    ["ps -", "--json --infrastructure --config --env-file --no-dashboard --help -h"],
    ["--in", "--infrastructure"],
    ["--in-", ""],
    ["--services ", "db web worker"],
    ["--services db,", "db,web db,worker"],
    ["--services db,we", "db,web"],
    ["--services=", "--services=db --services=web --services=worker"],
    ["--services=db,we", "--services=db,web"],
    ["--services = db,we", "db,web"],
    ["--services =", "db web worker"],
    ["--service w", "web worker"],
    ["-s w", "web worker"],
    ["-d ", ""],
    ["-d --wa", "--wait"],
    ["start --wait 5s d", "db"],
    ["start --wait ", ""],
    ["logs --config ", ""],
    ["logs --config=", ""],
    ["logs --config=other.yaml ", "mail"],
    ["--config other.yaml logs ", "mail"],
    ["--config = other.yaml logs ", "mail"],
    ["--config other.yaml --services ", "mail"],
    ["--no-dashboard lo", "logs"],
    ["--config other.yaml logs --fo", "--follow"],
    ["job ", JOB],
    ["--config other.yaml job ", JOB],
    ["job s", "submit status"],
    ["job xyz ", ""],
    ["job submit --we", "--webhook-url"],
    ["help ", FIRST],
    ["help lo", "logs"],
    ["help logs ", ""],
    ["help job ", JOB],
    ["help job submit ", ""],
    ["completions ", "bash zsh fish"],
    ["completions zsh ", ""],
  ] as const
) {
  Deno.test(`"${line}" is completed by: ${expected || "nothing"}`, async () => {
    assertEquals((await choicesFor(COMMANDS, line.split(" "), namesOf)).join(" "), expected);
  });
}

Deno.test("a script asks with the words after --, where options are words, too", async () => {
  await using site = await Site.make({ services: [quick("db"), quick("web")] });
  const ask = async (...words: string[]) => {
    const [program = "", ...first] = orchestratorCommand();
    const args = [...first, "completions", "bash", "--", ...words];
    const { code, stdout } = await new Deno.Command(program, { args, stdin: "null" }).output();
    return [code, new TextDecoder().decode(stdout)];
  };
  assertEquals(await ask("--infrastructure", site.path, "restart", ""), [0, "db\nweb\n"]);
  assertEquals(await ask("--infrastructure", `'${site.path}'`, "restart", "w"), [0, "web\n"], "quoted");
  assertEquals(await ask("logs", "--config", "--fo"), [0, ""], "a value is to come");
  assertEquals(await ask("--config", "-x", "logs", "--fo"), [0, "--follow\n"]);
});

Deno.test("there is no script for another shell", async () => {
  await using site = await Site.make({});
  const { code, out, err } = await site.run("completions", "tcsh");
  const message = 'orchestrator: There are completions for bash, zsh and fish, not for "tcsh".\n';
  assertEquals([code, out, err], [2, "", message]);
});

/** How each shell is started without a user's own settings, and how it takes the script `_orchestrator`. */
const SHELLS = {
  bash: ["bash --norc --noprofile", ". ./_orchestrator"],
  zsh: ["zsh -f", "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D"],
  fish: ["fish --no-config", "source ./_orchestrator"],
} as const;

/** Why a shell can not be driven here, or `null` when it can. */
function whyNot(shell: string): string | null {
  try {
    new Deno.Command(shell, { args: ["-c", "true"], stdin: "null" }).outputSync();
    return whyNoTerminal();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) || NOTHING_IGNORED) throw error;
    return `${shell} is not installed`;
  }
}

for (const [shell, [start, take]] of Object.entries(SHELLS)) {
  const reason = whyNot(shell);
  Deno.test({
    name: `${shell} completes commands, options, services and files${reason ? ` (ignored: ${reason})` : ""}`,
    ignore: reason !== null,
    async fn() {
      const services = JSON.stringify({ services: [quick("db"), quick("web")] });
      await using folder = await Folder.make({ files: { "my files/services.json": services } });
      const program = `${folder.path}/orchestrator`;
      await folder.write(
        "orchestrator",
        `#!/bin/sh\nexec ${orchestratorCommand().map(quote).join(" ")} "$@"\n`,
      );
      await Deno.chmod(program, 0o755);
      const script = await new Deno.Command(program, { args: ["completions", shell], stdin: "null" })
        .output();
      await folder.write("_orchestrator", new TextDecoder().decode(script.stdout));

      const PATH = `${folder.path}:${Deno.env.get("PATH")}`;
      await using terminal = await TestTerminal.open({
        columns: 120,
        environment: { HOME: folder.path, PATH, XDG_CONFIG_HOME: undefined, XDG_DATA_HOME: undefined },
      });
      await terminal.type(`cd; ${start}`);
      await terminal.type(`${take}; echo rea''dy`);
      await terminal.shows(/^ready/);
      for (
        const [typed, completed] of [
          ["orchestrator self", "orchestrator self-restart"],
          ["~/orchestrator --no-dashboard logs --fo", "~/orchestrator --no-dashboard logs --follow"],
          ["orchestrator job submit --we", "orchestrator job submit --webhook-url"],
          [
            "orchestrator --infrastructure ~/'my files' env w",
            "orchestrator --infrastructure ~/'my files' env web",
          ],
          ["orchestrator --config=_or", "orchestrator --config=_orchestrator"],
        ] as const
      ) {
        await terminal.keys(typed, "Tab");
        await terminal.shows(completed);
        await terminal.keys("C-u");
      }
    },
  });
}

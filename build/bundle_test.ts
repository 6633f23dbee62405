// @ts-types="../config/std.d.ts"
import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { VERSION } from "../config/version.ts";
import { FORMS, Machine } from "../testing/forms.ts";
import { Folder, ROOT, runToEnd } from "../testing/run.ts";
import { smokeTests } from "../testing/smoke.ts";
import { bundle } from "./bundle.ts";

smokeTests("bundle");

Deno.test("a bundle is the same wherever and however often it is made, and loads nothing at its top", async () => {
  await using folder = await Folder.make({ env: null });
  const make = async (name: string) => {
    assertEquals(await bundle(`${folder.path}/${name}`, { split: false }), true);
    assertEquals([...Deno.readDirSync(`${folder.path}/${name}`)].map(({ name }) => name), [
      "orchestrator.js",
    ]);
    return await folder.read(`${name}/orchestrator.js`);
  };
  const [first, second] = [await make("first"), await make("deeper/second")];
  assertEquals(first === second, true);
  assertNotMatch(first, /^import\b/m);
  assertNotMatch(first, /[^\x00-\x7f]/);
  for (const path of [ROOT, folder.path, Deno.env.get("HOME") ?? ROOT]) {
    assertEquals(first.includes(path), false);
  }
  for (const name of ["zod", "yaml", "croner", "@redis/client", "string-width", "deno-std"]) {
    assertMatch(first, new RegExp(`^// ${name} [\\d.]+, licence \\w+$`, "m"));
  }
});

Deno.test("a bundle is a library, too", async () => {
  await using machine = await Machine.make(FORMS.bundle, {
    files: {
      "city/own.js": `import { Orchestrator, runSingleService, UserError, VERSION } from "./orchestrator.js";
const run = new Orchestrator(["db"], { infrastructure: import.meta.dirname, dashboard: false });
console.log(VERSION, typeof runSingleService, await run.run().catch((error) => error instanceof UserError));
`,
      "city/services.json": JSON.stringify({ services: [{ name: "db", command: "echo hello" }] }),
    },
  });
  const program = [...machine.program.slice(0, -1), `${machine.folder.path}/city/own.js`];
  const { out, err } = await runToEnd(null, [], { ...machine.start, program });
  assertEquals(err, "");
  assertMatch(out, /^\[db\] hello$/m);
  assertMatch(out, new RegExp(`^${VERSION} function 0$`, "m"));
});

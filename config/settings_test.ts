// @ts-types="./std.d.ts"
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UserError } from "./errors.ts";
import { findHome, readEnvironment } from "./settings.ts";
import { Folder } from "../testing/run.ts";

Deno.test("the default .env may be missing, one given by name may not", async () => {
  await using folder = await Folder.make({ env: null });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals(environment, Deno.env.toObject());
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0]!, `${folder.path}/.env`);
  const envFile = `${folder.path}/other.env`;
  assertThrows(() => readEnvironment(findHome({ infrastructure: folder.path, envFile })), UserError, envFile);
});

Deno.test("a line of .env that can't be read is named by file and number, not by its value", async () => {
  await using folder = await Folder.make({ env: "GOOD=1\nbad s3cret line\nALSO=2\n" });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.GOOD, environment.ALSO], ["1", "2"]);
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0]!, `${folder.path}/.env:2`);
  assert(!warnings[0]!.includes("s3cret"));
});

Deno.test("what .env says wins over the process environment", async () => {
  await using folder = await Folder.make({ env: { HOME: "/elsewhere" } });
  const { environment } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.HOME, environment.PATH], ["/elsewhere", Deno.env.get("PATH")]);
});

Deno.test("an infrastructure folder that is not there is told with the option that names another", () => {
  assertThrows(() => findHome({ infrastructure: "/no/such/place" }), UserError, "/no/such/place");
  assertThrows(() => findHome({ infrastructure: "/no/such/place" }), UserError, "--infrastructure");
});

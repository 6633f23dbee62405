// @ts-types="./std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { UserError } from "./errors.ts";
import { findHome, findServicesFile, readEnvironment } from "./settings.ts";
import { Folder } from "../testing/run.ts";

Deno.test("the default .env may be missing, one given by name may not", async () => {
  await using folder = await Folder.make({ env: null });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals(environment, Deno.env.toObject());
  assertEquals(warnings, [`There is no ${folder.path}/.env; the defaults apply.`]);
  const envFile = `${folder.path}/other.env`;
  const home = findHome({ infrastructure: folder.path, envFile });
  const { message } = assertThrows(() => readEnvironment(home), UserError);
  assertEquals(message, `There is no file ${envFile}; check what --env-file names.`);
});

Deno.test("a missing .env names the example that can be copied", async () => {
  await using folder = await Folder.make({ env: null, files: { ".env.example": "A=1\n" } });
  const { warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals(warnings, [
    `There is no ${folder.path}/.env; the defaults apply (copy ${folder.path}/.env.example there to set one up).`,
  ]);
});

Deno.test("a line of .env that can't be read is named by file and number, not by its value", async () => {
  await using folder = await Folder.make({ env: "GOOD=1\nbad s3cret line\nALSO=2\n" });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.GOOD, environment.ALSO], ["1", "2"]);
  assertEquals(warnings, [`${folder.path}/.env:2 is not NAME=value and is skipped.`]);
});

Deno.test("what .env says wins over the process environment", async () => {
  await using folder = await Folder.make({ env: { HOME: "/elsewhere" } });
  const { environment } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.HOME, environment.PATH], ["/elsewhere", Deno.env.get("PATH")]);
});

Deno.test("an infrastructure folder that is not there is reported with the option that names another", () => {
  const { message } = assertThrows(() => findHome({ infrastructure: "/no/such/place" }), UserError);
  assertEquals(
    message,
    "There is no folder /no/such/place; place the orchestrator beside infrastructure/ or name the folder with " +
      "--infrastructure DIR.",
  );
});

Deno.test("services.yaml comes before services.yml, and that before services.json", async () => {
  await using folder = await Folder.make();
  assertEquals(findServicesFile(folder.path), null);
  for (const name of ["services.json", "services.yml", "services.yaml"]) {
    await folder.write(name, "");
    assertEquals(findServicesFile(folder.path), `${folder.path}/${name}`);
  }
});

Deno.test("a folder or a broken link in place of a services file is an error, not the built-in services", async () => {
  await using folder = await Folder.make();
  const file = `${folder.path}/services.yaml`;
  await Deno.mkdir(file);
  assertEquals(findServicesFile(folder.path), file);
  await Deno.remove(file);
  await Deno.symlink(`${folder.path}/gone`, file);
  assertEquals(findServicesFile(folder.path), file);
});

Deno.test("a folder that is not there, or none, has no services file", async () => {
  await using folder = await Folder.make({ files: { file: "" } });
  assertEquals(findServicesFile(`${folder.path}/nowhere`), null);
  assertEquals(findServicesFile(`${folder.path}/file`), null);
});

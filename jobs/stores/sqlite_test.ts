// @ts-types="../../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../model/errors.ts";
import { someJob, storeContract } from "../testing/store_contract.ts";
import { SqliteStorage } from "./sqlite.ts";

storeContract("sqlite", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/jobs.sqlite`;
  const storage = new SqliteStorage(path);
  return {
    storage,
    reopen: async () => {
      await storage[Symbol.asyncDispose]();
      return new SqliteStorage(path);
    },
    clean: () => Deno.remove(folder, { recursive: true }),
  };
});

Deno.test("a second engine on the same SQLite file is refused", async () => {
  const folder = await Deno.makeTempDir();
  const fault = (path: string) => assertThrows(() => new SqliteStorage(path), ConfigError).message;
  const path = `${folder}/jobs.sqlite`;
  {
    await using _first = new SqliteStorage(path);
    assertEquals(
      fault(path),
      `Cannot open ${path}: another engine is using it; stop that one, or use another file.`,
    );
  }
  const notes = `${folder}/notes.txt`;
  await Deno.writeTextFile(notes, "not a database, but long enough to look like some file ".repeat(99));
  assertEquals(fault(notes), `Cannot open ${notes}: it is not an SQLite file; name another one.`);
  const nowhere = `${folder}/none/jobs.sqlite`;
  assertEquals(
    fault(nowhere),
    `Cannot open ${nowhere}: unable to open database file: ${nowhere}; ` +
      "check that the folder exists and can be written to.",
  );
  await Deno.remove(folder, { recursive: true });
});

Deno.test("the last assignments of an engine that was killed are undone, earlier ones stay", async () => {
  const folder = await Deno.makeTempDir();
  const profile = { workerId: "w", types: ["echo"], models: [] };
  const job = someJob();
  const task = {
    jobId: job.id,
    type: "echo",
    priority: 0,
    since: 1,
    strategy: "default",
    timeoutMs: 9,
    payload: "{}",
  } as const;
  {
    await using storage = new SqliteStorage(`${folder}/jobs.sqlite`);
    await storage.commit([{
      job,
      wakeAt: null,
      enqueue: [{ ...task, id: "early" }, { ...task, id: "late" }],
    }]);
    await storage.take(profile, 1_000);
    await storage.time(5_000);
    await storage.take(profile, 5_500);
    // What a kill leaves behind: the files as they are now.
    for (const end of ["", "-wal"]) {
      await Deno.copyFile(`${folder}/jobs.sqlite${end}`, `${folder}/killed.sqlite${end}`);
    }
  }
  const held = async (name: string) => {
    await using storage = new SqliteStorage(`${folder}/${name}.sqlite`);
    return (await storage.heldBy("w")).map((one) => one.id);
  };
  assertEquals(await held("killed"), ["early"]);
  assertEquals((await held("jobs")).toSorted(), ["early", "late"]);
  assertEquals((await held("jobs")).toSorted(), ["early", "late"]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a process killed with -9 right after a commit loses nothing", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/jobs.sqlite`;
  const script = `
    import { SqliteStorage } from ${JSON.stringify(import.meta.resolve("./sqlite.ts"))};
    import { someJob } from ${JSON.stringify(import.meta.resolve("../testing/store_contract.ts"))};
    const storage = new SqliteStorage(${JSON.stringify(path)});
    for (;;) {
      const job = someJob();
      await storage.commit([{ job, wakeAt: null }]);
      await Deno.stdout.write(new TextEncoder().encode(job.id + "\\n"));
    }`;
  const file = `${folder}/writer.ts`;
  await Deno.writeTextFile(file, script);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--config", config, file],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let output = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += text;
    if (output.length > 20_000) child.kill("SIGKILL");
  }
  await child.status;
  {
    await using storage = new SqliteStorage(path);
    for (const id of output.split("\n").slice(0, -1)) assertEquals((await storage.read(id))?.job.id, id);
    assertEquals((await storage.commit([{ job: someJob(), wakeAt: null }])).kind, "done");
  }
  await Deno.remove(folder, { recursive: true });
});

// @ts-types="../config/std.d.ts"
import { assertEquals, assertMatch } from "@std/assert";

function installed(program: string): boolean {
  try {
    return new Deno.Command(program, {
      args: ["--version"],
      stdout: "null",
      stderr: "null",
    }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Of a process, or of the group `-pid`. */
function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT"); // says nothing to a process that is not suspended
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test({
  name: "npm start leaves its server behind when npm alone gets the signal, and nothing when its group is",
  ignore: Deno.build.os === "windows" || !installed("npm"), // nothing to show without npm or process groups
  async fn() {
    const port = freePort();
    const npm = new Deno.Command("npm", {
      args: ["start"],
      cwd: `${import.meta.dirname}/node`,
      env: { CLOCK_SERVICE_PORT: `${port}`, NO_UPDATE_NOTIFIER: "1" },
      detached: true,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let output = "";
    const lines = npm.stdout.pipeThrough(new TextDecoderStream())
      [Symbol.asyncIterator]();
    try {
      let pids: RegExpMatchArray | null = null;
      while (pids === null) {
        const { value, done } = await lines.next();
        if (done) throw new Error(`never listened:\n${output}`);
        output += value;
        pids = output.match(/clock (\d+) on port \d+, helper (\d+)\n/);
      }
      const [server, helper] = pids.slice(1).map(Number);

      npm.kill("SIGTERM");
      await npm.status;
      assertEquals([isAlive(server!), isAlive(helper!)], [true, true]);
      const answer = await fetch(`http://127.0.0.1:${port}/`);
      assertMatch(await answer.text(), /^\d{4}-\d\d-\d\dT\S+Z\n$/);

      Deno.kill(-npm.pid, "SIGTERM");
      // The pipe ends when the last process that holds it has gone.
      for (
        let next = await lines.next();
        !next.done;
        next = await lines.next()
      ) output += next.value;
      assertMatch(output, /clock stopped\n/);
      assertMatch(output, /helper stopped\n/);
    } finally {
      if (isAlive(-npm.pid)) Deno.kill(-npm.pid, "SIGKILL");
      await lines.return?.();
      await npm.status;
    }
  },
});

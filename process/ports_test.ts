// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { isPortFree, portHolder } from "./ports.ts";

for (const hostname of ["127.0.0.1", "0.0.0.0", "::1", "::"]) {
  Deno.test(`the process that listens on ${hostname} is found by its port`, () => {
    let listener;
    try {
      listener = Deno.listen({ hostname, port: 0 });
    } catch (error) {
      if (hostname.includes(":") && error instanceof Error && !(error instanceof Deno.errors.AddrInUse)) {
        return; // no IPv6 here
      }
      throw error;
    }
    try {
      const holder = portHolder(listener.addr.port);
      if (Deno.build.os !== "linux") assertEquals(holder, null);
      else {
        assertEquals(holder?.pid, Deno.pid);
        const words = Deno.readTextFileSync("/proc/self/cmdline").split("\0");
        assertEquals(holder?.command, words.join(" ").trim());
      }
    } finally {
      listener.close();
    }
  });
}

Deno.test("a port nobody listens on has no holder, also while a connection from it is open", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [near, far] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  const port = near.localAddr.transport === "tcp" ? near.localAddr.port : 0;
  assertEquals(portHolder(port), null);
  near.close();
  far.close();
  listener.close();
  assertEquals(portHolder(listener.addr.port), null);
});

for (const hostname of ["127.0.0.1", "0.0.0.0", "::1"]) {
  Deno.test(`a port that someone listens on at ${hostname} is not free, and is free afterwards`, () => {
    const listener = Deno.listen({ hostname, port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    assertEquals(isPortFree(port), false);
    listener.close();
    assertEquals(isPortFree(port), true);
  });
}

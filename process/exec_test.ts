// @ts-types="../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { becomeService } from "./exec.ts";

Deno.test("a working folder that can't be entered is an error, and nothing has changed then", () => {
  const [folder, environment] = [Deno.cwd(), Deno.env.toObject()];
  const launch = { program: "/bin/true", args: [], cwd: "/bin/true", environment: { A: "1" }, port: null };
  assertEquals(
    assertThrows(() => becomeService(launch), UserError).message,
    "Cannot enter the working folder: Not a directory.",
  );
  assertEquals([Deno.cwd(), Deno.env.toObject()], [folder, environment]);
});

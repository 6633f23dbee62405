// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { decoder } from "../config/bytes.ts";
import { Outlet } from "./outlet.ts";
import { PanelView } from "./panel_view.ts";

Deno.test("what is shown below the last panel is written before the view is closed again", async () => {
  const writes: string[] = [];
  const slowly = async (bytes: Uint8Array) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    writes.push(decoder.decode(bytes));
    return bytes.length;
  };
  Deno.stdin.isTerminal = () => false; // also where someone runs this test by hand
  const view = new PanelView(new Outlet({ write: slowly }), {
    snapshot: () => ({ at: 0, stopping: false, services: [] }),
    tail: () => [],
    setDesired() {},
  }, { quit() {} });
  await view.close();
  Reflect.deleteProperty(Deno.stdin, "isTerminal");
  view.message("the crash card");
  await view.close();
  assertEquals(writes.at(-1), "the crash card\n");
});

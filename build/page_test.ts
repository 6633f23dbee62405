// @ts-types="../config/std.d.ts"
import { assert } from "@std/assert";
import { pageAsset } from "./page.ts";

Deno.test("the script of the engine's page is made of its modules as they are", async () => {
  const committed = await Deno.readTextFile(new URL("../jobs/http/page/asset.ts", import.meta.url));
  assert(committed === await pageAsset(), "asset.ts is out of date; run: deno task page");
});

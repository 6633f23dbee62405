// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { MODULE, prefixLines } from "./prefix.ts";
import wabt from "wabt";
import { decoder, encoder } from "../config/bytes.ts";
import { seeded } from "../testing/services.ts";
import { binary } from "../testing/sink.ts";

Deno.test("a prefix comes before each line, and the bytes of the lines stay as they are", () => {
  const lines = Uint8Array.of(255, 10, 10, 65, 13, 10);
  assertEquals(binary(prefixLines(encoder.encode("> "), lines)), "> \xff\n> \n> A\r\n");
});

Deno.test("blocks of every shape get their prefixes, one after the other", () => {
  const random = seeded(7);
  const shapes = [
    "\n".repeat(65_536),
    "a\n".repeat(40_000),
    `${"b".repeat(14)}\n${"c".repeat(15)}\n${"d".repeat(16)}\n`.repeat(1_000),
    `${"e".repeat(262_143)}\n`,
    `${"f".repeat(300_000)}\n`,
    ...Array.from({ length: 200 }, () => {
      const longest = Math.ceil(2 ** (random() * 12));
      let text = "";
      while (text.length < 2_000 + 20_000 * random()) {
        text += `${String.fromCharCode(97 + random() * 26).repeat(random() * longest)}\n`;
      }
      return text;
    }),
  ];
  for (const [index, text] of shapes.entries()) {
    const prefix = ["", "> ", "[ db] ", "p".repeat(60), "q".repeat(1_100)][index % 5];
    const expected = prefix + text.slice(0, -1).replaceAll("\n", `\n${prefix}`) + "\n";
    const result = decoder.decode(prefixLines(encoder.encode(prefix), encoder.encode(text)));
    assert(result === expected, `block ${index} of ${text.length} bytes behind ${prefix!.length}`);
  }
});

Deno.test("where machine code can't be made, blocks get their prefixes all the same", async () => {
  const code = `import { prefixLines } from ${JSON.stringify(import.meta.resolve("./prefix.ts"))};
    const lines = new TextEncoder().encode("0123456789\\n".repeat(5_000));
    console.log("WebAssembly" in globalThis, prefixLines(new Uint8Array(3), lines).length);`;
  const args = ["eval", "--no-check", "--v8-flags=--jitless", code];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  assertEquals(decoder.decode(stdout), "false 70000\n", decoder.decode(stderr));
});

Deno.test("the module is prefix.wat, assembled", async () => {
  const source = await Deno.readTextFile(new URL("prefix.wat", import.meta.url));
  const { parseWat } = await wabt();
  const assembled = parseWat("prefix.wat", source, { simd: true, bulk_memory: true }).toBinary({}).buffer;
  assertEquals(MODULE, btoa(String.fromCharCode(...assembled)));
});

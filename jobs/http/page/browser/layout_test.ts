import { layout, walkOf } from "./layout.ts";
// @ts-types="../../../../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";

Deno.test("a graph's states and labels keep apart, whatever its arrows", () => {
  let seed = 20_261_121;
  const chance = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (seed >>> 8) % below;
  };
  for (let round = 0; round < 200; round++) {
    const count = 1 + chance(12);
    const states = Array.from(
      { length: count },
      (_, i) => ({ name: "s".repeat(1 + chance(20)) + i, is_start: i === 0 }),
    );
    const anyName = () => states[chance(count)]?.name ?? "";
    const edges = Array.from({ length: chance(2 * count + 1) }, () => ({
      from: anyName(),
      to: anyName(),
      label: "label".repeat(chance(4)),
    }));
    const { boxes, arrows, width, height } = layout({ states, edges });
    assertEquals(boxes.length, count);
    assertEquals(arrows.length, new Set(edges.map(({ from, to }) => `${from} ${to}`)).size);
    for (const box of boxes) {
      assert(box.x - box.width / 2 >= 0 && box.x + box.width / 2 <= width && box.y > 0 && box.y < height);
      for (const other of boxes) {
        if (other === box || other.y !== box.y) continue;
        assert(
          Math.abs(other.x - box.x) >= (other.width + box.width) / 2,
          `${box.name} covers ${other.name}`,
        );
      }
    }
    for (const { path } of arrows) assert(!/NaN|undefined/.test(path), path);
    const labels = arrows.filter(({ from, to, label }) => from !== to && label !== "");
    for (const a of labels) {
      for (const b of labels) {
        if (a === b || a.y !== b.y) continue;
        const wide = (Math.min(a.label.length, 28) + Math.min(b.label.length, 28)) / 2 * 6.4;
        assert(Math.abs(a.x - b.x) >= wide, `${a.label} covers ${b.label}`);
      }
    }
  }
});

Deno.test("a job's way is its states in order, each stay once", () => {
  const history = ["start", "start", "pack", "pack", "start"].map((state) => ({ state }));
  assertEquals(walkOf({ current_state: "start" }, history), ["start", "pack", "start"]);
  assertEquals(walkOf({ current_state: "done" }, history), ["start", "pack", "start", "done"]);
  assertEquals(walkOf({ current_state: "start" }, []), ["start"]);
});

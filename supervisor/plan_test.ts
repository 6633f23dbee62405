// @ts-types="../config/std.d.ts"
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { SERVICES } from "../services.ts";
import { planStart } from "./plan.ts";
import { graph } from "../testing/services.ts";

for (
  const [what, dependencies, asked, order] of [
    ["what is independent keeps its order", { c: "", a: "", b: "" }, "", "c a b"],
    ["dependencies come first", { web: "db", db: "" }, "", "db web"],
    ["others stay as near to their place as they can", { x: "", web: "db", y: "", db: "" }, "", "x db web y"],
    ["a diamond is started once", { d: "b c", b: "a", c: "a", a: "" }, "", "a b c d"],
    ["Nord City as the document orders it", { db: "", web: "db", bot: "db" }, "", "db web bot"],
    ["the order asked for does not matter", { db: "", web: "db", bot: "db" }, "bot web", "db web bot"],
    ["only what is asked for and needed", { db: "", web: "db", bot: "db" }, "bot", "db bot"],
    ["a name asked for twice", { db: "", web: "db" }, "db db", "db"],
  ] as const
) {
  Deno.test(`plan: ${what}`, () => {
    const plan = planStart(graph(dependencies), asked.split(" ").filter(Boolean));
    assertEquals(plan.services.map(({ name }) => name).join(" "), order);
  });
}

Deno.test("plan: what nobody named is listed with what needs it", () => {
  const services = graph({ disk: "", db: "disk", web: "db", bot: "db" });
  assertEquals(planStart(services, ["bot"]).added, [
    { name: "db", neededBy: "bot" },
    { name: "disk", neededBy: "db" },
  ]);
  assertEquals(planStart(services, ["disk"]).added, []);
});

Deno.test("plan: without autostart a service runs only when named or needed", () => {
  const services = graph({ db: "", web: "db", tool: "" }).map((service) => ({
    ...service,
    autostart: service.name === "web",
  }));
  assertEquals(planStart(services, []).services.map(({ name }) => name), ["db", "web"]);
  assertEquals(planStart(services, ["tool"]).services.map(({ name }) => name), ["tool"]);
});

for (
  const [dependencies, cycle] of [
    [{ a: "a" }, "a -> a"],
    [{ a: "b", b: "a" }, "a -> b -> a"],
    [{ x: "a", a: "b", b: "c", c: "a" }, "a -> b -> c -> a"],
  ] as const
) {
  Deno.test(`plan: the cycle ${cycle} is shown`, () => {
    assertThrows(() => planStart(graph(dependencies), []), UserError, `dependencies ${cycle} form`);
  });
}

Deno.test("plan: an unknown dependency is refused with who needs it and the closest name", () => {
  const { message } = assertThrows(() => planStart(graph({ database: "", web: "databse" }), []), UserError);
  for (const part of [`"web"`, `"databse"`, `did you mean "database"?`]) assertStringIncludes(message, part);
});

Deno.test("plan: an unknown name is refused with the closest and the possible ones", () => {
  const { message } = assertThrows(() => planStart(SERVICES, ["wbe"]), UserError, `did you mean "web"?`);
  assertStringIncludes(message, "db, web, bot");
});

Deno.test("plan: a chain of 10,000 services is put in order", () => {
  const names = Array.from({ length: 10_000 }, (_, index) => `s${index}`);
  const services = graph(Object.fromEntries(names.map((name, index) => [name, names[index + 1] ?? ""])));
  assertEquals(planStart(services, []).services.map(({ name }) => name), names.toReversed());
});

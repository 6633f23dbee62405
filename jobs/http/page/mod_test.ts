import { GIVEN, NOTHING_IGNORED, ROOT, Run } from "../../../testing/run.ts";
import { findChromium, Page } from "../../testing/chromium.ts";
import { StateMachineBlueprint } from "../../mod.ts";
import type { EngineAccess } from "../../testing/engine.ts";
import { engineAccess, openTestEngine } from "../../testing/engine.ts";
import parcel from "../../testing/parcel.js";
// @ts-types="../../../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

// ---- What the tests look at -----------------------------------------------------------------------------------------

const HOSTILE = `</script><img src=x onerror="alert(1)">'"><svg/onload=alert(2)>{{7*7}}\u202e`;

/** An engine for the page; where a bundle or a binary is tested, it is that. */
async function openEngine(port = 0): Promise<EngineAccess & AsyncDisposable & { stop(): Promise<unknown> }> {
  if (GIVEN === undefined) {
    const config = { jobMaxRetries: 0, port };
    const engine = await openTestEngine({ blueprints: parcel({ StateMachineBlueprint }), config });
    return { ...engine, stop: () => engine.engine.stop() };
  }
  const blueprints = `${ROOT}/jobs/testing/parcel.js`;
  const settings = ["--storage", "memory", "--port", `${port}`, "--max-retries", "0"];
  const environment = { CLIENT_TOKEN: "client-token", GLOBAL_WORKER_TOKEN: "worker-token" };
  const run = new Run(null, ["engine", "--blueprints", blueprints, ...settings], { environment });
  const { url } = JSON.parse(await run.line('"engine_running"'));
  return {
    ...engineAccess(url),
    stop: () => run.stop(),
    [Symbol.asyncDispose]: () => run[Symbol.asyncDispose](),
  };
}

/** A test of the page in a browser. Afterwards nothing may have gone wrong or been asked for elsewhere. */
function browserTest(
  name: string,
  test: (page: Page, engine: Awaited<ReturnType<typeof openEngine>>) => Promise<void>,
  options: { isBroken?: true } = {},
) {
  const ignore = findChromium() === undefined && !NOTHING_IGNORED;
  Deno.test({
    name: ignore ? `${name} (ignored: no Chromium in PATH)` : name,
    ignore,
    async fn() {
      await using engine = await openEngine();
      await using page = await Page.open();
      await page.goto(`${engine.url}/`);
      await test(page, engine);
      const elsewhere = page.requested.filter((url) =>
        !url.startsWith(`${engine.url}/`) && !url.startsWith("data:")
      );
      assertEquals(elsewhere, []);
      assertEquals(page.requested.filter((url) => url.includes("client-token")), []);
      if (!options.isBroken) assertEquals(page.problems, []);
    },
  });
}

async function signIn(page: Page, token = "client-token") {
  await page.until("document.activeElement?.id === 'token'");
  await page.type(token);
  await page.press("Enter");
}

/** The job's row in the list, then its own view. */
async function openJob(page: Page, id: string) {
  await page.click(`#jobs a[href$="${id}"]`);
  await page.until("document.activeElement?.id === 'job-title'");
}

/** What the graph shows as walked and as present. */
const lit = `[[...document.querySelectorAll(".graph .node.lit text")].map((text) => text.textContent).join(),
  document.querySelector(".graph .present text").textContent,
  document.querySelectorAll(".graph .edge.lit").length].join("|")`;

// ---- In the browser -------------------------------------------------------------------------------------------------

browserTest("a job that is submitted elsewhere runs to its end on the page", async (page, engine) => {
  await signIn(page);
  await page.shows("No jobs yet");
  await page.shows("Live", "header");
  const id = await engine.submit("/api/v1/jobs/parcel", { item: "lamp" });
  await page.shows("Waits for worker", "#jobs");
  await openJob(page, id);
  await page.shows(`a worker for "pack"`, ".facts");
  assertEquals(await page.evaluate(lit), "start|pack|1");

  await engine.register("packer-1", ["pack"]);
  const task = await engine.take("packer-1");
  assert(task !== undefined);
  await page.shows("packer-1", ".facts");
  await engine.worker("/_worker/events", {
    body: {
      worker_id: "packer-1",
      event_type: "progress",
      task_id: task.task_id,
      job_id: id,
      progress: 0.25,
      message: "Box found",
    },
  });
  await page.shows("25 % Box found", ".facts");

  await engine.answer("packer-1", task, { status: "success", data: { weight: 812 } });
  await page.shows("Finished", "#job-title");
  await page.until(`${lit} === "start,pack|completed|2"`);
  await page.shows(`"weight": 812`, ".job");
  await page.shows("job finished", ".timeline");
  await page.until("document.querySelector('#notice').textContent === 'parcel: Finished'");
  await page.shows("Finished", "#jobs");
  assertEquals(await page.evaluate("document.querySelector('[data-do=cancel], [data-do=retry]')"), null);
});

browserTest("cancelling asks first, then ends the job", async (page, engine) => {
  const id = await engine.submit("/api/v1/jobs/parcel");
  await signIn(page);
  await openJob(page, id);
  await page.click("[data-do=cancel]");
  await page.shows("This cannot be undone", "dialog");
  await page.click("dialog button[value=no]");
  await page.until("!document.querySelector('dialog')");
  assertEquals((await engine.client(`/api/jobs/${id}`)).json.status, "waiting_for_worker");

  await page.click("[data-do=cancel]");
  await page.click("dialog button[value=yes]");
  await page.shows("Cancelled", "#job-title");
  assertEquals((await engine.client(`/api/jobs/${id}`)).json.status, "cancelled");
  // The button is gone; who works by keyboard is not thrown back to the top.
  await page.until("document.activeElement.id === 'job-title'");
});

browserTest(
  "a job that waits for a human shows its question and takes the decision",
  async (page, engine) => {
    const id = await engine.submit("/api/v1/jobs/parcel", { question: "Is the address right?" });
    await signIn(page);
    await page.shows("Needs approval", "#jobs");
    await openJob(page, id);
    await page.shows("Approval (desk)", ".question");
    await page.shows("Is the address right?", ".question");
    await page.click("[data-decision=approved]");
    await page.shows("Waits for worker", "#job-title");
    await page.until(`${lit} === "start,review|pack|2" && !document.querySelector(".question")`);
    assertEquals((await engine.client(`/api/jobs/${id}`)).json.current_state, "pack");
  },
);

browserTest("a job that has failed shows why and can be run again", async (page, engine) => {
  const id = await engine.submit("/api/v1/jobs/parcel");
  await engine.register("packer-1", ["pack"]);
  const first = await engine.take("packer-1");
  assert(first !== undefined);
  await engine.answer("packer-1", first, {
    status: "failure",
    error: { code: "PERMANENT_ERROR", message: "No box" },
  });
  await signIn(page);
  await openJob(page, id);
  await page.shows("Quarantined", "#job-title");
  await page.shows("No box", "p.error");
  await page.click("[data-do=retry]");
  const second = await engine.take("packer-1");
  assert(second !== undefined);
  await engine.answer("packer-1", second, { status: "success", data: {} });
  await page.shows("Finished", "#job-title");
});

browserTest("a wrong token is refused in words and is not kept", async (page) => {
  await signIn(page, "wrong");
  await page.shows("The engine does not know this token.");
  await page.until("document.activeElement.id === 'token'");
  assertEquals(await page.evaluate("document.getElementById('token').getAttribute('aria-invalid')"), "true");
  assertEquals(
    await page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length"),
    0,
  );
  await page.evaluate("document.getElementById('token').value = ''");
  await signIn(page, "kein gültiges Zeichen: ☃"); // no header can carry it
  await page.until("document.getElementById('wrong').textContent && document.activeElement.id === 'token'");
  assertEquals(await page.evaluate("sessionStorage.length"), 0);
  await page.evaluate("document.getElementById('token').value = ''");
  await signIn(page);
  await page.shows("No jobs yet");

  // It outlives a reload of the tab, and signing out forgets it.
  await page.goto(await page.evaluate("location.href") as string);
  await page.shows("No jobs yet");
  await page.click("[data-do=leave]");
  await page.until("document.activeElement.id === 'token'");
  assertEquals(await page.evaluate("sessionStorage.length"), 0);
}, { isBroken: true });

browserTest("data of jobs and workers is shown as text, whatever it holds", async (page, engine) => {
  const worker = "w<img/src=x>";
  const asked = await engine.submit("/api/v1/jobs/parcel", {
    question: HOSTILE,
    item: HOSTILE,
    [HOSTILE]: 1,
  });
  const failed = await engine.submit("/api/v1/jobs/parcel", { item: HOSTILE });
  await engine.register("packer-1", ["pack", HOSTILE], { worker_type: HOSTILE, hostname: HOSTILE });
  const task = await engine.take("packer-1");
  assert(task !== undefined);
  await engine.answer("packer-1", task, {
    status: "failure",
    data: { [HOSTILE]: HOSTILE },
    error: { code: "PERMANENT_ERROR", message: `${HOSTILE}${worker}` },
  });
  await signIn(page);
  await page.shows("onerror=", "#jobs");
  await openJob(page, asked);
  await page.shows(HOSTILE, ".question");
  await openJob(page, failed);
  await page.shows(HOSTILE, "p.error");
  await page.shows(HOSTILE, ".timeline");
  await page.click("nav a[href='#/load']");
  await page.shows(HOSTILE, ".worker");
  assertEquals(
    await page.evaluate("document.querySelectorAll('img, #app script').length"),
    0,
  );
  // Even a page that made markup of it could not run it.
  await page.evaluate(
    `document.body.insertAdjacentHTML("beforeend", "<p id=smuggled onclick='window.ran = 1'>")`,
  );
  await page.evaluate("document.getElementById('smuggled').click()");
  assertEquals(await page.evaluate("window.ran"), undefined);
  assertEquals(page.problems.filter((text) => text.startsWith("dialog")), []);
  page.problems.splice(
    0,
    Infinity,
    ...page.problems.filter((text) => !text.includes("Content Security Policy")),
  );
});

browserTest("everything can be reached and done by keyboard", async (page, engine) => {
  const [first, second] = [
    await engine.submit("/api/v1/jobs/parcel", { item: "one" }),
    await engine.submit("/api/v1/jobs/parcel"),
  ];
  await signIn(page);
  await page.until("document.querySelectorAll('#jobs li').length === 2");
  const focused = () =>
    page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id") as Promise<
      string
    >;
  const seen: string[] = [];
  await page.evaluate("document.querySelector('.skip').focus()");
  for (let i = 0; i < 9; i++) {
    if (i > 0) await page.press("Tab");
    seen.push(await focused());
    // Whoever tabs sees where they are.
    const { outline, width } = await page.evaluate(
      "(() => { const style = getComputedStyle(document.activeElement); " +
        "return { outline: style.outlineStyle, width: parseFloat(style.outlineWidth) } })()",
    ) as { outline: string; width: number };
    assert(outline === "solid" && width >= 2, `no visible focus on ${seen.at(-1)}`);
  }
  assertEquals(seen.slice(0, 6), ["Skip to content", "Jobs", "Workers", "API", "Sign out", "search"]);
  const [all = "", waiting = "", newest = ""] = seen.slice(6);
  assertMatch(all, /^All/);
  assertMatch(waiting, /^Waits for worker/);
  assertStringIncludes(newest, second);
  await page.press("ArrowDown");
  assertStringIncludes(await focused(), first);
  await page.press("Enter");
  await page.until("document.activeElement.id === 'job-title' && document.querySelector('.timeline li')");
  await page.press("Tab");
  assertEquals(await focused(), "Cancel job");
  await page.press("Enter");
  await page.until("document.querySelector('dialog')?.open");
  assertEquals(await focused(), "Keep it");
  await page.press("Escape");
  await page.until("!document.querySelector('dialog')");
  assertEquals(await focused(), "Cancel job");
  await page.press("Enter");
  await page.until("document.querySelector('dialog')?.open");
  await page.press("Tab", "Enter");
  await page.shows("Cancelled", "#job-title");

  // What is unfolded and where the focus is outlives what happens meanwhile.
  await page.until("document.activeElement.id === 'job-title'");
  await page.evaluate("document.getElementById('search').focus()");
  await page.type("pack");
  await page.until("document.querySelectorAll('#jobs li').length === 2");
  const third = await engine.submit("/api/v1/jobs/parcel");
  await page.until(`document.querySelector('#jobs a[href$="${third}"]')`);
  assertEquals(await page.evaluate("document.activeElement.value"), "pack");
});

browserTest("jobs are found by state and by text", async (page, engine) => {
  const asked = await engine.submit("/api/v1/jobs/parcel", { question: "Well?" });
  for (let i = 0; i < 60; i++) await engine.submit("/api/v1/jobs/parcel");
  await signIn(page);
  await page.shows("All61", ".chips"); // the count stands apart by a margin
  await page.until("document.querySelectorAll('#jobs li').length === 50");
  await page.click("[data-do=more]");
  await page.until("document.querySelectorAll('#jobs li').length === 61");
  await page.click(".chip.waiting_for_human");
  await page.until("document.querySelectorAll('#jobs li').length === 1");
  assertEquals(await page.evaluate("document.querySelector('.chip.waiting_for_human').ariaPressed"), "true");
  await page.click(".chip:first-child");
  await page.until("document.querySelectorAll('#jobs li').length === 50");
  await page.click("#search");
  await page.type(asked);
  await page.until("document.querySelectorAll('#jobs li').length === 1");
  await page.click("nav a[href='#/load']");
  await page.click("nav a[href='#/jobs']");
  await page.until(`document.querySelector("#search")?.value === "${asked}"`);
  await page.click("#search");
  await page.type("no such job");
  await page.shows("No job matches.");
});

browserTest("workers show their load and last heartbeat, plots the last minutes", async (page, engine) => {
  await engine.register("packer-1", ["pack"], { max_concurrent_tasks: 4, hostname: "host-1" });
  await engine.submit("/api/v1/jobs/parcel");
  await engine.submit("/api/v1/jobs/parcel");
  assert(await engine.take("packer-1") !== undefined);
  await signIn(page);
  await page.click("nav a[href='#/load']");
  await page.shows("1 of 4 tasks", ".worker");
  await page.shows("test · host-1", ".worker");
  assertMatch(
    await page.evaluate("document.querySelector('.worker').innerText") as string,
    /Last heartbeat (now|\d+ s ago)/,
  );
  await page.shows("waiting 1", ".plots");
  await page.shows("at workers 1", ".plots");
  await page.until("document.querySelectorAll('.plot .line').length === 4");
  const labels = await page.evaluate(
    "[...document.querySelectorAll('.plot svg')].map((it) => it.ariaLabel).join()",
  );
  assertMatch(
    String(labels),
    /Queue depth, last five minutes\. Now: waiting 1, at workers 1\..*Throughput, last five minutes/s,
  );
  assertEquals(
    await page.evaluate("document.querySelector('tbody tr').innerText.split(/\\s+/).slice(0, 3).join()"),
    "pack,1,1",
  );
});

browserTest("an engine that comes back is found again", async (page, engine) => {
  await signIn(page);
  await page.shows("Live", "header");
  const { port } = new URL(engine.url);
  await engine.stop();
  await page.shows("Connecting", "header");
  await using again = await openEngine(Number(port));
  await again.submit("/api/v1/jobs/parcel");
  await page.shows("Live", "header");
  await page.shows("parcel", "#jobs");
}, { isBroken: true });

browserTest(
  "a tab that nobody sees holds no connection, and is up to date when seen again",
  async (page, engine) => {
    await signIn(page);
    await page.shows("Live", "header");
    const hide = (isHidden: boolean) =>
      page.evaluate(
        `Object.defineProperty(document, "hidden", { value: ${isHidden}, configurable: true });` +
          `document.dispatchEvent(new Event("visibilitychange"))`,
      );
    await hide(true);
    await page.shows("Connecting", "header");
    await engine.submit("/api/v1/jobs/parcel");
    await hide(false);
    await page.shows("Live", "header");
    await page.shows("parcel", "#jobs");
  },
);

// Every text against the colour behind it: 4.5 to 1 is what WCAG asks for.
const paleTexts = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colors) => {
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((part) => part / 255).map((part) =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  ).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script,noscript,title,.graph,.unseen")) continue;
    const behind = [];
    for (let it = element; it; it = it.parentElement) behind.unshift(getComputedStyle(it).backgroundColor);
    const [text, ground] = [light(paint([...behind, getComputedStyle(element).color])), light(paint(behind))];
    const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (ratio < 4.5) found.push(walker.currentNode.data + " " + ratio.toFixed(2));
  }
  return found;
})()`;

browserTest(
  "it follows light and dark, stays readable, fits phones and keeps still when asked to",
  async (page, engine) => {
    await engine.register("packer-1", ["pack"]);
    await engine.submit("/api/v1/jobs/parcel");
    const task = await engine.take("packer-1");
    assert(task !== undefined);
    await engine.answer("packer-1", task, {
      status: "failure",
      error: { code: "PERMANENT_ERROR", message: "No box" },
    });
    const asked = await engine.submit("/api/v1/jobs/parcel", { question: "Well?" });
    await signIn(page);
    await page.shows("Live", "header");
    const grounds = new Set();
    for (const scheme of ["light", "dark"]) {
      await page.prefer({ "prefers-color-scheme": scheme });
      grounds.add(await page.evaluate("getComputedStyle(document.documentElement).backgroundColor"));
      for (const width of [1280, 800, 360]) {
        await page.resize({ width, height: 740 });
        for (
          const [view, there] of [["jobs", "#jobs li"], [`jobs/${asked}`, ".question"], ["load", ".worker"]]
        ) {
          await page.evaluate(`location.hash = ${JSON.stringify(`#/${view}`)}`);
          await page.until(`document.querySelector(${JSON.stringify(there)})?.checkVisibility()`);
          assertEquals(await page.evaluate(paleTexts), [], `pale in ${scheme} on ${view} at ${width}`);
          const over = await page.evaluate(
            `Math.max(...[...document.querySelectorAll("html, main, section, .card:not(.scroll)")]` +
              `.map((it) => it.scrollWidth - it.clientWidth))`,
          );
          assertEquals(over, 0, `${view} at ${width} pixels`);
        }
      }
    }
    assertEquals(grounds.size, 2);
    assertEquals(await page.evaluate("document.getAnimations().length > 0"), true);
    await page.prefer({ "prefers-reduced-motion": "reduce" });
    await page.until("document.getAnimations().length === 0");
  },
);

browserTest(
  "assistive technology finds a name for everything that can be used",
  async (page, engine) => {
    const id = await engine.submit("/api/v1/jobs/parcel", { question: "Well?" });
    await signIn(page);
    await openJob(page, id);
    await page.shows("Well?");
    const { nodes } = await page.send("Accessibility.getFullAXTree");
    const named = (nodes as { ignored: boolean; role?: { value: string }; name?: { value: string } }[])
      .filter((node) => !node.ignored).map((node) =>
        [node.role?.value ?? "", node.name?.value ?? ""] as const
      );
    const usable = ["button", "link", "searchbox", "textbox", "region", "image", "navigation"];
    assertEquals(named.filter(([role, name]) => usable.includes(role) && name === ""), []);
    for (const role of ["main", "navigation", "status", "heading", "list", "searchbox"]) {
      assert(named.some(([found]) => found === role), `no ${role}`);
    }
    assertMatch(named.find(([role]) => role === "image")?.[1] ?? "", /^Way of the job: start, then review\./);
  },
);

// ---- Without a browser ----------------------------------------------------------------------------------------------

Deno.test("the page is small, needs nothing from elsewhere and may load nothing", async () => {
  await using engine = await openEngine();
  const { status, headers, text } = await engine.client("/");
  assertEquals(status, 200);
  assertEquals(headers.get("content-type"), "text/html; charset=utf-8");
  assertMatch(
    headers.get("content-security-policy") ?? "",
    /^default-src 'none'; style-src 'sha256-\S+'; script-src 'sha256-\S+'; connect-src 'self'/,
  );
  assert(!/unsafe|\*/.test(headers.get("content-security-policy") ?? ""));
  assertEquals(text.match(/(src|href|url\()\s*=?\s*["']?https?:/g), null);
  assert(text.length < 40_000, `${text.length} characters`);
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  const size = (await new Response(packed).bytes()).length;
  assert(size < 14_000, `${size} bytes over the wire`);
});

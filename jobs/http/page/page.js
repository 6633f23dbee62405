/**
 * The page's script. It runs in the browser only: `mod.ts` puts the text of these functions into the page, so each of
 * them may use the others and what browsers offer, and nothing else. The graph's layout is pure and tested alone.
 *
 * What is shown is always `view(state)`; nothing else writes into the page.
 */

/**
 * Makes an element: `make("p.dim", { id: "note" }, "text", other)`; `svg:` before the name makes a drawing's.
 * Texts become text nodes, so no job can smuggle markup in.
 */
export function make(selector, ...content) {
  const [name, ...classes] = selector.split(".");
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  if (classes.length > 0) element.setAttribute("class", classes.join(" "));
  const isOn = (value) => value !== undefined && value !== null && value !== false;
  if (content[0]?.constructor === Object) {
    for (const [key, value] of Object.entries(content.shift())) {
      if (isOn(value)) element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...content.flat(2).filter(isOn));
  return element;
}

/** Makes `old` look like `fresh` with the fewest changes: focus, scrolling, selection and what is unfolded stay. */
export function morph(old, fresh) {
  // Whether details are unfolded is the reader's business.
  const isOurs = (attribute) => attribute.name !== "open";
  for (const { name } of [...old.attributes].filter(isOurs)) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes].filter(isOurs)) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const keyOf = (node) => node.dataset?.key;
  const keys = new Set([...fresh.childNodes].map(keyOf));
  const keyed = new Map();
  for (const child of [...old.childNodes]) {
    if (keyOf(child) === undefined) continue;
    if (keys.has(keyOf(child))) keyed.set(keyOf(child), child);
    else child.remove();
  }
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    const same = key === undefined ? next : keyed.get(key);
    if (!same || same.nodeName !== child.nodeName || keyOf(same) !== key) {
      old.insertBefore(child, next);
    } else {
      if (same === next) next = next.nextSibling;
      else old.insertBefore(same, next);
      if (same.nodeType === Node.ELEMENT_NODE) morph(same, child);
      else if (same.data !== child.data) same.data = child.data;
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

/**
 * Lays a graph out in rows, from its start downwards. Every arrow has a place of its own in the rows between its ends,
 * as wide as its label, so labels never cover each other.
 */
export function layout({ states, edges }) {
  const gap = 24;
  const rowHeight = [38, 44]; // states, arrows
  const byName = new Map(states.map((state) => [state.name, { ...state, label: state.name, out: [] }]));
  const ends = new Map();
  for (const { from, to, label } of edges) {
    const key = JSON.stringify([from, to]);
    const known = ends.get(key);
    const text = label === to || label === "transition" ? "" : label.replace(/^on /, "");
    if (!known) ends.set(key, { from, to, labels: text === "" ? [] : [text] });
    else if (text !== "" && !known.labels.includes(text)) known.labels.push(text);
  }
  const arrows = [...ends.values()].map((arrow) => ({ ...arrow, label: arrow.labels.join(", ") }));
  for (const arrow of arrows) byName.get(arrow.from).out.push(arrow);

  // Arrows that lead back are laid out the other way round, so that there are no circles left.
  const order = [];
  const entered = new Map();
  const enter = (node) => {
    entered.set(node.name, "open");
    for (const arrow of node.out) {
      arrow.isBack = entered.get(arrow.to) === "open";
      if (!entered.has(arrow.to)) enter(byName.get(arrow.to));
    }
    entered.set(node.name, "done");
    order.unshift(node);
  };
  const starts = [...byName.values()].sort((a, b) => Number(b.is_start) - Number(a.is_start));
  for (const node of starts) if (!entered.has(node.name)) enter(node);
  for (const node of order) node.row = 0;
  const lower = (arrow) => {
    const [top, bottom] = [byName.get(arrow.from), byName.get(arrow.to)];
    if (top !== bottom && !arrow.isBack) bottom.row = Math.max(bottom.row, top.row + 2);
  };
  for (const node of order) node.out.forEach(lower);
  // Ends of backward arrows may share no row with their start.
  const place = (label, size) => Math.max(14, Math.min(label.length, 28) * size + 12);
  const rows = [];
  const put = (item) => {
    (rows[item.row] ??= []).push(item);
    return item;
  };
  for (const node of order) {
    node.width = Math.max(64, place(node.label, 7.6) + 18);
    node.loop = node.out.find((arrow) => arrow.to === node.name);
    node.space = node.width + (node.loop ? 2 * (place(node.loop.label, 6.4) + 30) : 0);
    put(node);
  }
  const lines = [];
  for (const arrow of arrows.filter((arrow) => arrow.from !== arrow.to)) {
    const [from, to] = [byName.get(arrow.from), byName.get(arrow.to)];
    const [top, bottom] = from.row < to.row ? [from, to] : [to, from];
    const bends = [];
    for (let row = top.row + 1; row < bottom.row; row++) {
      bends.push(put({ row, label: "", space: 14, isBend: true }));
    }
    const named = top === from ? bends[0] : bends[bends.length - 1];
    if (named) {
      named.label = arrow.label;
      named.space = place(arrow.label, 6.4);
    }
    const chain = [top, ...bends, bottom];
    chain.forEach((item, index) => {
      if (index > 0) (item.above ??= []).push(chain[index - 1]);
      if (index < chain.length - 1) (item.below ??= []).push(chain[index + 1]);
    });
    lines.push({ arrow, chain: top === from ? chain : chain.reverse(), named });
  }

  const filled = rows.map((row) => row ?? []);
  const mean = (items, value, otherwise) =>
    items?.length ? items.reduce((sum, item) => sum + value(item), 0) / items.length : otherwise;
  const sweep = (visit) => {
    for (let round = 0; round < 12; round++) {
      const isDown = round % 2 === 0;
      for (const row of isDown ? filled : [...filled].reverse()) visit(row, isDown ? "above" : "below");
    }
  };
  const number = (row) => row.forEach((item, index) => item.index = index);
  filled.forEach(number);
  sweep((row, side) => {
    row.sort((a, b) =>
      mean(a[side], (item) => item.index, a.index) - mean(b[side], (item) => item.index, b.index)
    );
    number(row);
  });
  for (const row of filled) {
    let x = 0;
    for (const item of row) {
      item.x = x + item.space / 2;
      x += item.space + gap;
    }
    row.forEach((item) => item.x -= (x - gap) / 2);
  }
  // Everybody moves towards its neighbours. Pushing right and pushing left both keep the distances, so their mean does.
  sweep((row, side) => {
    const wanted = row.map((item) => mean(item[side], (other) => other.x, item.x));
    const apart = (a, b) => (row[a].space + row[b].space) / 2 + gap;
    const right = [...wanted];
    for (let i = 1; i < row.length; i++) right[i] = Math.max(right[i], right[i - 1] + apart(i - 1, i));
    const left = [...wanted];
    for (let i = row.length - 2; i >= 0; i--) left[i] = Math.min(left[i], left[i + 1] - apart(i, i + 1));
    row.forEach((item, i) => item.x = (right[i] + left[i]) / 2);
  });
  const all = filled.flat();
  const leftmost = Math.min(0, ...all.map((item) => item.x - item.space / 2));
  let top = 6;
  filled.forEach((row, index) => {
    row.forEach((item) => {
      item.x += 6 - leftmost;
      item.y = top + rowHeight[index % 2] / 2;
    });
    top += rowHeight[index % 2];
  });
  const half = rowHeight[0] / 2;
  return {
    width: Math.max(0, ...all.map((item) => item.x + item.space / 2)) + 6,
    height: top + 6,
    nodes: order,
    loops: order.filter((node) => node.loop).map(({ name, x, y, width, loop }) => ({
      from: name,
      to: name,
      label: loop.label,
      x: x + width / 2 + 30,
      y,
      path: `M${x + width / 2} ${y - 8}c28 -10 28 26 4 16`,
    })),
    lines: lines.map(({ arrow, chain, named }) => {
      const points = chain.map(({ x, y }) => ({ x, y }));
      const way = Math.sign(points[points.length - 1].y - points[0].y);
      points[0].y += way * half;
      points[points.length - 1].y -= way * (half + 4);
      const curves = points.slice(1).map(({ x, y }, index) => {
        const middle = (points[index].y + y) / 2;
        return `C${points[index].x} ${middle} ${x} ${middle} ${x} ${y}`;
      });
      return {
        ...arrow,
        x: named?.x,
        y: named?.y,
        path: `M${points[0].x} ${points[0].y}${curves.join("")}`,
      };
    }),
  };
}

/** The states a job went through, in order, the present one last. */
export function walkOf(job, history) {
  const states = [...history.map((entry) => entry.state), job.current_state];
  return states.filter((state, index) => state !== undefined && state !== states[index - 1]);
}

/** A blueprint's graph with a job's way through it. */
export function drawGraph(graph, walk, status) {
  const short = (text) => text.length > 28 ? `${text.slice(0, 27)}…` : text;
  const states = [...graph.states];
  const edges = [...graph.edges];
  const addState = (name) => {
    if (!states.some((state) => state.name === name)) states.push({ name });
  };
  edges.forEach(({ from, to }) => [from, to].forEach(addState));
  walk.forEach(addState);
  const steps = new Set(walk.slice(1).map((state, index) => JSON.stringify([walk[index], state])));
  const wasTaken = ({ from, to }) => steps.has(JSON.stringify([from, to]));
  for (const step of steps) {
    const [from, to] = JSON.parse(step);
    if (!edges.some((edge) => edge.from === from && edge.to === to)) edges.push({ from, to, label: "" });
  }
  const { width, height, nodes, lines, loops } = layout({ states, edges });
  const present = walk[walk.length - 1];
  const arrowOf = (line) => {
    const lit = wasTaken(line) ? " lit" : "";
    return make(
      `svg:g.edge${lit}`,
      make("svg:path", { d: line.path, "marker-end": `url(#arrow${lit ? "-lit" : ""})` }),
      line.label && make(
        "svg:text",
        { x: line.x, y: line.y + 4, "text-anchor": line.from === line.to ? "start" : "middle" },
        short(line.label),
      ),
    );
  };
  const nodeOf = ({ name, x, y, width, is_start: isStart, is_end: isEnd }) => {
    const box = (inset) =>
      make("svg:rect", {
        x: x - width / 2 + inset,
        y: y - 19 + inset,
        width: width - 2 * inset,
        height: 38 - 2 * inset,
        rx: (isStart ? 19 : 9) - inset,
      });
    const kind = name === present ? `present ${status}` : walk.includes(name) ? "lit" : "";
    return make(
      `svg:g.node.${kind}`,
      make("svg:title", name),
      box(0),
      isEnd && box(3),
      make("svg:text", { x, y: y + 4.5, "text-anchor": "middle" }, short(name)),
    );
  };
  const tip = (id) =>
    make(
      "svg:marker",
      {
        id,
        viewBox: "0 0 8 8",
        refX: 6,
        refY: 4,
        markerUnits: "userSpaceOnUse",
        markerWidth: 10,
        markerHeight: 10,
        orient: "auto",
      },
      make("svg:path", { d: "M0 0L8 4L0 8z" }),
    );
  return make(
    "div.scroll.graph",
    { tabindex: 0, role: "region", "aria-label": "Graph, can be scrolled" },
    make(
      width > 700 ? "svg:svg.wide" : "svg:svg",
      {
        role: "img",
        "aria-label": `Way of the job: ${walk.join(", then ")}. States: ${
          nodes.map((node) => node.name).join(", ")
        }.`,
        viewBox: `0 0 ${width} ${height}`,
        width,
        height,
      },
      make("svg:defs", tip("arrow"), tip("arrow-lit")),
      [...lines, ...loops].sort((a, b) => wasTaken(a) - wasTaken(b)).map(arrowOf),
      nodes.map(nodeOf),
    ),
  );
}

/** A plot of the last minutes; the first series is filled. Samples come one a second; each point is a mean of some. */
export function drawPlot(title, unit, { samples, series, meanSeconds }) {
  const spanSeconds = 300;
  const mean = (key, at) => {
    const some = samples.slice(Math.max(0, at + 1 - meanSeconds), at + 1);
    return some.reduce((sum, sample) => sum + sample[key], 0) / some.length;
  };
  const end = samples[samples.length - 1]?.seconds ?? 0;
  const points = samples.map((sample, at) => ({
    x: (600 - (end - sample.seconds) * 600 / spanSeconds).toFixed(1),
    values: series.map(({ key }) => mean(key, at)),
  })).filter(({ x }) => x >= 0);
  const peak = Math.max(1, ...points.flatMap(({ values }) => values));
  const step = 10 ** Math.floor(Math.log10(peak));
  const top = [1, 2, 5, 10].map((times) => times * step).find((limit) => limit >= peak);
  const lineOf = (index) =>
    points.map(({ x, values }) => `${x} ${(100 - values[index] * 96 / top).toFixed(1)}`).join("L");
  const last = points[points.length - 1]?.values;
  const now = series.map(({ name }, index) => `${name} ${Math.round((last?.[index] ?? 0) * 10) / 10}`);
  return make(
    "figure.card.plot",
    make(
      "figcaption",
      make("h2", title, make("small", ` ${unit}`)),
      now.map((text, index) => make(`span.key.s${index}`, text)),
    ),
    make(
      "div.axes",
      make("div.ys", { "aria-hidden": "true" }, make("span", top), make("span", 0)),
      make(
        "svg:svg",
        {
          role: "img",
          "aria-label": `${title}, last five minutes. Now: ${now.join(", ")}. Most: ${
            Math.round(peak * 10) / 10
          }.`,
          viewBox: "0 0 600 100",
          preserveAspectRatio: "none",
        },
        make("svg:path.grid", { d: "M0 4H600M0 52H600M0 99.5H600" }),
        points.length > 1 && series.map((_, index) => [
          index === 0 && make("svg:path.area", { d: `M${points[0].x} 100L${lineOf(index)}V100z` }),
          make(`svg:path.line.s${index}`, { d: `M${lineOf(index)}` }),
        ]),
      ),
      make(
        "div.xs",
        { "aria-hidden": "true" },
        make("span", "5 min ago"),
        make("span", "now"),
      ),
    ),
  );
}

/** Runs the page. */
export function page() {
  const words = {
    pending: "Pending",
    running: "Running",
    awaiting_retry: "Retries soon",
    waiting_for_worker: "Waits for worker",
    waiting_for_parallel_tasks: "In parallel",
    waiting_for_human: "Needs approval",
    waiting_for_sub_job: "Waits for sub-job",
    finished: "Finished",
    failed: "Failed",
    quarantined: "Quarantined",
    cancelled: "Cancelled",
  };
  const ended = ["finished", "failed", "quarantined", "cancelled"];
  const pageSize = 50;
  const state = {
    token: sessionStorage.getItem("client-token"),
    wrong: "",
    connected: false,
    skewMs: 0,
    status: "",
    search: "",
    limit: pageSize,
    jobs: undefined,
    dashboard: undefined,
    workers: undefined,
    job: undefined,
    history: [],
    graph: undefined,
  };
  const byId = (id) => document.getElementById(id);
  const routeOf = () => {
    const [, view, id = ""] = /^#\/(jobs|load)(?:\/([\w-]+))?$/.exec(location.hash) ?? [];
    return { view: view ?? "jobs", id };
  };

  // ---- Talking to the engine ----

  /** Says something to eyes and screen readers, for a while. */
  function notify(text) {
    byId("notice").textContent = text;
    setTimeout(() => byId("notice").textContent === text && (byId("notice").textContent = ""), 6000);
  }

  function leave(reason) {
    sessionStorage.removeItem("client-token");
    Object.assign(state, { token: null, wrong: reason, jobs: undefined, job: undefined, connected: false });
    state.silence?.abort();
    render();
    byId("token")?.focus();
  }

  async function ask(path, options = {}) {
    const token = state.token;
    const headers = { "X-Client-Token": token, ...options.headers };
    const response = await fetch(path, { cache: "no-store", ...options, headers });
    if (response.status === 401 && token === state.token) leave("The engine does not know this token.");
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      throw new Error(body.error ?? `The engine answered ${response.status}.`);
    }
    const sentAt = Date.parse(response.headers.get("date") ?? "");
    if (sentAt) state.skewMs = sentAt - Date.now();
    return response;
  }

  /** Runs `action` soon, at most once at a time, and not while the page cannot be seen. */
  function paced(delayMs, action) {
    let timer, isRunning = false, isWanted = false;
    const run = async () => {
      timer = undefined;
      isWanted = isRunning;
      if (isRunning || document.hidden) return;
      isRunning = true;
      try {
        if (state.token) await action();
      } catch {
        // The next event or tick asks again; that the engine is away is shown by the light at the top.
      }
      isRunning = false;
      render();
      if (isWanted) want();
    };
    const want = () => timer ??= setTimeout(run, delayMs);
    return want;
  }

  const wantJobs = paced(200, async () => {
    const { status, search, limit } = state;
    const query = new URLSearchParams({
      limit: limit + 1,
      ...(status && { status }),
      ...(search && { search }),
    });
    const jobs = await (await ask(`api/jobs?${query}`)).json();
    if (status === state.status && search === state.search) state.jobs = jobs;
    else wantJobs();
  });
  const wantDashboard = paced(300, async () => {
    state.dashboard = await (await ask("api/dashboard")).json();
  });
  const wantWorkers = paced(0, async () => {
    state.workers = await (await ask("api/workers")).json();
  });
  const wantJob = paced(50, async () => {
    const { id } = routeOf();
    if (!id) return;
    const path = `api/jobs/${id}`;
    try {
      const [job, history] = await Promise.all(
        [ask(path), ask(`${path}/history`)].map(async (answer) => (await answer).json()),
      );
      const name = encodeURIComponent(job.blueprint_name);
      const graph = await ask(`api/blueprints/${name}/graph?format=json`).then((answer) => answer.json())
        .catch(() => ({ states: [], edges: [] })); // the blueprint may be gone, the job is still there
      if (id !== routeOf().id) return;
      const before = state.job;
      Object.assign(state, { job, history, graph, missing: "" });
      if (before?.id === id && before.status !== job.status) {
        notify(`${job.blueprint_name}: ${words[job.status] ?? job.status}`);
      }
    } catch (error) {
      if (id === routeOf().id) Object.assign(state, { job: undefined, missing: error.message });
    }
  });

  /** Follows the engine's events as long as this token is in use; comes back after every break. */
  async function follow(token) {
    let waitMs = 500;
    for (;;) {
      // Browsers open few connections to one host; tabs that nobody sees need none.
      if (document.hidden) {
        await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
        if (state.token !== token) return;
        continue;
      }
      const silence = state.silence = new AbortController();
      let timer;
      // The engine says something every 15 seconds; a connection that is silent for longer is dead.
      const onMessage = () => {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), 40_000);
      };
      try {
        onMessage();
        const response = await ask("api/jobs/events", { signal: silence.signal });
        state.connected = true;
        waitMs = 500;
        everything();
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          onMessage();
          const blocks = (rest + value).split(/\r?\n\r?\n/);
          rest = blocks.pop();
          for (const block of blocks) {
            const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) =>
              line.slice(5)
            );
            if (data.length > 0) changed(JSON.parse(data.join("\n")));
          }
        }
      } catch {
        // Any break is the same: say so and come back.
      }
      clearTimeout(timer);
      if (state.token !== token) return;
      state.connected = false;
      render();
      await new Promise((done) => setTimeout(done, waitMs));
      waitMs = Math.min(waitMs * 2, 10_000);
    }
  }

  function changed(summary) {
    wantJobs();
    wantDashboard();
    if (summary.job_id === routeOf().id) wantJob();
  }

  function everything() {
    wantJobs();
    wantDashboard();
    wantJob();
    if (routeOf().view === "load") wantWorkers();
  }

  async function change(text, path, body) {
    try {
      await ask(path, {
        method: "POST",
        ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
      });
      notify(text);
    } catch (error) {
      notify(`Not done: ${error.message}`);
    }
    wantJob();
    wantJobs();
  }

  /** Asks before something that cannot be undone. The browser keeps the focus inside, and gives it back. */
  function confirmed(question, verb) {
    const dialog = make(
      "dialog",
      { "aria-labelledby": "question" },
      make("p", { id: "question" }, question),
      make(
        "div.row",
        make("button", { value: "no", autofocus: true }, "Keep it"),
        make("button.danger", { value: "yes" }, verb),
      ),
    );
    document.body.append(dialog);
    dialog.onclick = (event) => {
      const button = event.target.closest("button");
      if (button) dialog.close(button.value);
    };
    dialog.showModal();
    return new Promise((answer) =>
      dialog.onclose = () => {
        dialog.remove();
        answer(dialog.returnValue === "yes");
      }
    );
  }

  // ---- Views: state in, elements out ----

  const clock = (text) => {
    const at = new Date(text);
    const isToday = at.toDateString() === new Date().toDateString();
    const shown = isToday ? at.toLocaleTimeString() : at.toLocaleString();
    return make("time", { datetime: text, title: at.toLocaleString() }, shown);
  };
  const span = (ms) =>
    ms < 1000
      ? `${Math.max(0, Math.round(ms))} ms`
      : ms < 60_000
      ? `${(ms / 1000).toFixed(ms < 10_000 && ms % 1000 !== 0 ? 1 : 0)} s`
      : ms < 3_600_000
      ? `${Math.floor(ms / 60_000)} min ${Math.floor(ms / 1000) % 60} s`
      : `${(ms / 3_600_000).toFixed(1)} h`;
  const ago = (text) => {
    const seconds = Math.round((Date.now() + state.skewMs - Date.parse(text)) / 1000);
    return seconds < 1 ? "now" : `${span(seconds * 1000)} ago`;
  };
  const pill = (status) => make(`span.pill.${status}`, words[status] ?? status);
  const jobLink = (id) => make("a", { href: `#/jobs/${id}` }, id);

  function signIn() {
    return make(
      "main.door",
      make(
        "form.card",
        { id: "sign-in" },
        make("h1", "Jobs"),
        make("label", { for: "token" }, "Client token"),
        make("input", {
          id: "token",
          type: "password",
          autocomplete: "current-password",
          required: true,
          autofocus: true,
          "aria-invalid": state.wrong !== "" && "true",
          "aria-describedby": "wrong",
        }),
        make("p", { id: "wrong", role: "alert" }, state.wrong),
        make("button.main", "Sign in"),
        make("p.dim", "It stays in this tab and is forgotten when the tab closes."),
      ),
    );
  }

  function header(view) {
    const tab = (name, text) =>
      make("a", { href: `#/${name}`, "aria-current": view === name && "page" }, text);
    return make(
      "header",
      make("nav", { "aria-label": "Views" }, tab("jobs", "Jobs"), tab("load", "Workers")),
      make(
        state.connected ? "span.live.on" : "span.live",
        { role: "status" },
        state.connected ? "Live" : "Connecting…",
      ),
      make("a.quiet", { href: "_public/docs" }, "API"),
      make("button.quiet", { "data-do": "leave" }, "Sign out"),
    );
  }

  function jobList(openId) {
    const counts = state.dashboard?.jobs ?? {};
    const total = Object.keys(words).reduce((sum, status) => sum + (counts[status] ?? 0), 0);
    const chip = (status, text, count) =>
      make(
        status ? `button.chip.${status}` : "button.chip",
        {
          "data-key": `chip-${status}`,
          "data-do": "filter",
          "data-status": status,
          "aria-pressed": String(state.status === status),
        },
        text,
        make("b", count),
      );
    const row = (job) =>
      make(
        "li",
        { "data-key": job.job_id },
        make(
          "a",
          {
            href: `#/jobs/${job.job_id}`,
            "aria-current": job.job_id === openId && "true",
          },
          make("span.name", job.blueprint_name),
          pill(job.status),
          make("span.dim.at", job.state),
          make("span.dim", clock(job.created_at)),
          make("code.dim", job.job_id),
          job.error_message && make("span.error", job.error_message),
        ),
      );
    const jobs = state.jobs;
    return make(
      "section.list",
      { "aria-labelledby": "list-title" },
      make("h1.unseen", { id: "list-title" }, "Jobs"),
      make("label.unseen", { for: "search" }, "Search jobs"),
      make("input", {
        id: "search",
        type: "search",
        placeholder: "Search jobs",
        autocomplete: "off",
        value: state.search,
      }),
      make(
        "div.chips",
        { role: "group", "aria-label": "Jobs by state" },
        chip("", "All", total),
        Object.keys(words).filter((status) => counts[status] > 0 || status === state.status).map((status) =>
          chip(status, words[status], counts[status] ?? 0)
        ),
      ),
      jobs === undefined ? make("p.dim", { "data-key": "note" }, "Loading…") : jobs.length === 0 && make(
        "p.dim",
        { "data-key": "note" },
        state.search || state.status ? "No job matches." : "No jobs yet. Submit one, and it appears here.",
      ),
      make("ul", { id: "jobs", "data-key": "jobs" }, (jobs ?? []).slice(0, state.limit).map(row)),
      jobs?.length > state.limit &&
        make("button.quiet", { "data-key": "more", "data-do": "more" }, "Show more"),
    );
  }

  function data(title, value, isOpen) {
    if (value === undefined || value === null || Object.keys(value).length === 0) return false;
    const text = JSON.stringify(value, null, 2);
    const limit = 20_000;
    return make(
      "details.card",
      { "data-key": title, open: isOpen },
      make("summary", title),
      make("pre", { tabindex: 0, role: "region", "aria-label": title }, text.slice(0, limit)),
      text.length > limit &&
        make("p.dim", `${text.length - limit} more characters are not shown.`),
    );
  }

  function timeline() {
    const limit = 300;
    const older = state.history.length - limit;
    return make(
      "section.card",
      { "data-key": "timeline" },
      make("h2", "Timeline"),
      older > 0 && make("p.dim", `${older} older entries are not shown.`),
      make(
        "ol.timeline",
        state.history.slice(-limit).map((entry) =>
          make(
            entry.error ? "li.bad" : "li",
            { "data-key": `event-${entry.event_id}` },
            make("b", entry.event_type.replaceAll("_", " ")),
            clock(entry.timestamp),
            make(
              "span.dim",
              [
                entry.next_state && entry.previous_state !== entry.next_state
                  ? `${entry.previous_state ?? entry.state} → ${entry.next_state}`
                  : entry.state,
                entry.attempt_number !== undefined && `attempt ${entry.attempt_number}`,
                entry.duration_ms !== undefined && span(entry.duration_ms),
                entry.worker_id,
              ].filter(Boolean).join(" · "),
            ),
            entry.error && make("span.error", entry.error),
            entry.result && make(
              "details",
              make("summary", "Result"),
              make("pre", { tabindex: 0 }, JSON.stringify(entry.result, null, 2).slice(0, 20_000)),
            ),
          )
        ),
      ),
    );
  }

  function jobView(id) {
    const back = make("a.back", { href: "#/jobs" }, "← All jobs");
    const job = state.job;
    if (job?.id !== id) {
      const text = !id ? "Choose a job to see its way." : state.missing || "Loading…";
      return make(
        "section.job",
        { "aria-label": "Job" },
        id && back,
        make("p.dim", text),
      );
    }
    const isOver = ended.includes(job.status);
    const fact = (name, value) =>
      value !== undefined && value !== null && value !== "" &&
      make("div", { "data-key": name }, make("dt", name), make("dd", value));
    const percent = job.progress?.progress === undefined
      ? undefined
      : Math.round(job.progress.progress * 100);
    return make(
      "section.job",
      { "aria-labelledby": "job-title", "data-key": id },
      back,
      make(
        "div.row",
        make("h1", { id: "job-title", tabindex: -1 }, job.blueprint_name, " ", pill(job.status)),
        ["failed", "quarantined"].includes(job.status) &&
          make("button.main", { "data-key": "retry", "data-do": "retry" }, "Run again"),
        !isOver &&
          make("button.danger", { "data-key": "cancel", "data-do": "cancel" }, "Cancel job"),
      ),
      make("code.dim", id),
      job.status === "waiting_for_human" && job.approval && make(
        "section.card.question",
        { "data-key": "question", "aria-label": "Approval" },
        make("h2", job.approval.integration ? `Approval (${job.approval.integration})` : "Approval"),
        make("p.message", job.approval.message),
        make(
          "div.row",
          job.approval.decisions.map((decision, index) =>
            make(index === 0 ? "button.main" : "button", {
              "data-do": "decide",
              "data-decision": decision,
            }, decision)
          ),
        ),
      ),
      job.error_message && make("p.card.error", { "data-key": "error" }, job.error_message),
      make(
        "dl.card.facts",
        { "data-key": "facts" },
        fact("State", job.current_state),
        fact("Created", clock(job.created_at)),
        fact(
          isOver ? "Took" : "Since",
          isOver && job.ended_at
            ? span(Date.parse(job.ended_at) - Date.parse(job.created_at))
            : clock(job.updated_at),
        ),
        fact("Waits for", job.waiting_for),
        fact("Task", job.current_task_info?.type),
        fact("Worker", job.task_worker_id),
        fact("Retries", job.retry_count || undefined),
        fact("Part of", job.parent_job_id && jobLink(job.parent_job_id)),
        fact("Sub-job", job.child_job_id && jobLink(job.child_job_id)),
        percent !== undefined && !isOver && make(
          "div.wide",
          { "data-key": "progress" },
          make("dt", "Progress"),
          make(
            "dd",
            make("progress", { max: 100, value: percent, "aria-label": "Progress" }),
            ` ${percent} % ${job.progress.message ?? ""}`,
          ),
        ),
      ),
      make(
        "div.pair",
        { "data-key": "pair" },
        make(
          "section.card",
          { "data-key": "graph" },
          make("h2", "Way through the blueprint"),
          drawGraph(state.graph, walkOf(job, state.history), job.status),
        ),
        timeline(),
      ),
      data("Result", job.result, true),
      data("Params", job.initial_data, true),
      data("Task", job.current_task_info, false),
      data("Results of branches", job.aggregation_results, false),
      data("Data so far", job.state_history, !job.result),
    );
  }

  function loadView() {
    const { samples = [], queues = [] } = state.dashboard ?? {};
    const workers = state.workers;
    const card = (worker) =>
      make(
        "li.card.worker",
        { "data-key": worker.worker_id },
        make(
          "div.row",
          make("h3", worker.worker_id),
          make(`span.pill.${worker.status === "idle" ? "finished" : "running"}`, worker.status),
        ),
        make("p.dim", [worker.worker_type, worker.hostname].filter(Boolean).join(" · ")),
        make("meter", {
          max: worker.max_concurrent_tasks,
          value: worker.held_tasks,
          "aria-label": `Load of ${worker.worker_id}`,
        }),
        make("p", `${worker.held_tasks} of ${worker.max_concurrent_tasks} tasks, load ${worker.load}`),
        make(
          "p.dim",
          "Last heartbeat ",
          make("time", {
            datetime: worker.last_heartbeat_at,
          }, ago(worker.last_heartbeat_at)),
        ),
        make("p.tags", worker.supported_tasks.map((task) => make("code", task))),
      );
    return make(
      "main.load",
      { id: "main", tabindex: -1 },
      make("h1.unseen", "Workers and load"),
      make(
        "div.plots",
        drawPlot("Queue depth", "tasks", {
          samples,
          meanSeconds: 1,
          series: [
            { key: "queued", name: "waiting" },
            { key: "held", name: "at workers" },
          ],
        }),
        drawPlot("Throughput", "a second, mean of 10 s", {
          samples,
          meanSeconds: 10,
          series: [
            { key: "ended", name: "ended" },
            { key: "submitted", name: "submitted" },
          ],
        }),
      ),
      queues.length > 0 && make(
        "div.card.scroll",
        { tabindex: 0, role: "region", "aria-label": "Queues" },
        make(
          "table",
          make("caption", "Queues"),
          make(
            "thead",
            make(
              "tr",
              ["Task type", "Waiting", "At workers", "Oldest"].map((text) =>
                make("th", { scope: "col" }, text)
              ),
            ),
          ),
          make(
            "tbody",
            queues.map((queue) =>
              make(
                "tr",
                { "data-key": queue.type },
                make("th", { scope: "row" }, queue.type),
                make("td", queue.queued),
                make("td", queue.held),
                make("td", queue.queued > 0 ? span(queue.oldest_seconds * 1000) : "–"),
              )
            ),
          ),
        ),
      ),
      make("h2", "Workers", workers && make("small", ` ${workers.length}`)),
      workers?.length === 0 &&
        make(
          "p.dim",
          { "data-key": "none" },
          "No worker is connected; tasks wait until one comes.",
        ),
      make("ul.workers", { "data-key": "workers" }, (workers ?? []).map(card)),
    );
  }

  function view() {
    if (!state.token) return [signIn()];
    const { view, id } = routeOf();
    return [
      make("a.skip", { href: "#main", "data-do": "skip" }, "Skip to content"),
      header(view),
      view === "load" ? loadView() : make(
        id ? "main.split.has-job" : "main.split",
        { id: "main", tabindex: -1 },
        jobList(id),
        jobView(id),
      ),
    ];
  }

  function render() {
    const app = byId("app");
    const hadFocus = app.contains(document.activeElement);
    morph(app, make("div", { id: "app" }, view()));
    // A button that is gone (the job has ended) hands its focus to the job's title.
    if (hadFocus && !app.contains(document.activeElement)) (byId("job-title") ?? byId("main"))?.focus();
  }

  // ---- What people do ----

  const acts = {
    leave: () => leave(""),
    skip: () => byId("main").focus(),
    filter: ({ status }) => {
      Object.assign(state, { status, limit: pageSize, jobs: undefined });
      wantJobs();
    },
    more: () => {
      state.limit += pageSize;
      wantJobs();
    },
    retry: () => change("The job runs again.", `api/jobs/${state.job.id}/retry`),
    decide: ({ decision }) =>
      change(`Decided: ${decision}`, `api/jobs/${state.job.id}/approve`, { decision }),
    cancel: async () => {
      const path = `api/jobs/${state.job.id}/cancel`;
      const question = `Cancel this ${state.job.blueprint_name} job? This cannot be undone.`;
      if (await confirmed(question, "Cancel job")) change("The job is cancelled.", path);
    },
  };
  document.addEventListener("click", (event) => {
    const act = event.target.closest?.("[data-do]");
    if (!act) return;
    event.preventDefault();
    acts[act.dataset.do](act.dataset);
    render();
  });
  document.addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = byId("token").value.trim();
    if (!token) return;
    Object.assign(state, { token, wrong: "" });
    try {
      state.dashboard = await (await ask("api/dashboard")).json();
    } catch (error) {
      // A token with letters that no header can carry fails before it is sent.
      leave(state.wrong || error.message);
      return;
    }
    sessionStorage.setItem("client-token", token);
    enter();
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "search") return;
    Object.assign(state, { search: event.target.value.trim(), limit: pageSize });
    wantJobs();
  });
  document.addEventListener("keydown", (event) => {
    const row = event.target.closest?.("#jobs li");
    const next = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    next.firstChild.focus();
  });
  document.addEventListener("visibilitychange", () => document.hidden && state.silence?.abort());
  addEventListener("hashchange", () => {
    const { view, id } = routeOf();
    const before = state.job?.id;
    if (id !== before) Object.assign(state, { job: undefined, missing: "" });
    everything();
    render();
    if (id) arrive(id);
    else if (view === "jobs" && before) {
      document.querySelector(`#jobs a[href$="${CSS.escape(before)}"]`)?.focus();
    } else byId("main")?.focus();
  });

  /** Moves the focus to a job's title as soon as it is there. */
  function arrive(id) {
    const title = byId("job-title");
    if (title && state.job?.id === id) title.focus();
    else if (id === routeOf().id && !state.missing) setTimeout(() => arrive(id), 30);
  }

  function enter() {
    render();
    follow(state.token);
    byId("main")?.focus();
  }

  setInterval(() => {
    if (!state.token) return;
    wantDashboard();
    if (routeOf().view === "load") wantWorkers();
    // That a worker has taken the task is no event of the job.
    if (state.job && !ended.includes(state.job.status)) wantJob();
  }, 2000);
  if (state.token) enter();
  else render();
}

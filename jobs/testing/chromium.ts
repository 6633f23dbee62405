/**
 * Drives a headless Chromium over its DevTools protocol, as far as tests of pages need it: one browser, one profile in
 * a temporary folder, one page. All are gone when it is disposed.
 *
 * @module
 */

/** Where Chromium is, or undefined where it is not installed. */
export function findChromium(): string | undefined {
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.flatMap((folder) => names.map((name) => `${folder}/${name}`)).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
      throw error;
    }
  });
}

type Json = Record<string, unknown>;
interface Message {
  id?: number;
  method?: string;
  params?: Json;
  result?: Json;
  error?: { message: string };
}

/** A page in a browser of its own. */
export class Page implements AsyncDisposable {
  /** Addresses that the page asked for. */
  readonly requested: string[] = [];
  /** Errors and warnings of the page and of the browser, and dialogs. */
  readonly problems: string[] = [];
  readonly #waiting = new Map<number, { resolve: (result: Json) => void; reject: (error: Error) => void }>();
  readonly #closed = Promise.withResolvers<void>();
  #lastId = 0;
  #session: string | undefined;

  private constructor(
    private readonly child: Deno.ChildProcess,
    private readonly errorOutput: Promise<void>,
    private readonly socket: WebSocket,
    private readonly profile: string,
  ) {
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)));
    socket.onclose = () => {
      this.#closed.resolve();
      for (const { reject } of this.#waiting.values()) reject(new Error("The browser is gone."));
      this.#waiting.clear();
    };
  }

  /** Starts a browser. @throws when it does not come up within 30 s. */
  static async open(size = { width: 1280, height: 860 }): Promise<Page> {
    const program = findChromium();
    if (program === undefined) {
      throw new Error("Chromium is not in PATH; install your system's package (chromium) and try again.");
    }
    const profile = await Deno.makeTempDir({ prefix: "chromium-" });
    const child = new Deno.Command(program, {
      args: [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--disable-breakpad",
        "--disable-crash-reporter",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--password-store=basic",
        `--user-data-dir=${profile}`,
        "--remote-debugging-port=0",
        "about:blank",
      ],
      env: { HOME: profile, TMPDIR: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      detached: true, // a group of its own, so that its helpers can be ended with it
    }).spawn();
    const address = Promise.withResolvers<string>();
    const errorOutput = (async () => {
      let seen = "";
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
        seen = (seen + text).slice(-10_000);
        const found = /DevTools listening on (ws:\S+)/.exec(seen);
        if (found?.[1] !== undefined) address.resolve(found[1]);
      }
      address.reject(new Error(`Chromium ended before it was ready: ${seen}`));
    })();
    const timer = setTimeout(
      () => address.reject(new Error("Chromium did not come up within 30 s.")),
      30_000,
    );
    try {
      const socket = new WebSocket(await address.promise);
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("Cannot reach Chromium's DevTools port."));
      });
      const page = new Page(child, errorOutput, socket, profile);
      await page.#attach(size);
      return page;
    } catch (error) {
      await endBrowser(child, errorOutput, profile);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #attach(size: { width: number; height: number }) {
    const { targetInfos } = await this.send("Target.getTargets");
    const target = (targetInfos as Json[]).find((info) => info.type === "page");
    const { sessionId } = await this.send("Target.attachToTarget", {
      targetId: target?.targetId,
      flatten: true,
    });
    this.#session = String(sessionId);
    for (const domain of ["Page", "Runtime", "Network", "Log", "DOM", "Accessibility"]) {
      await this.send(`${domain}.enable`);
    }
    await this.send("Emulation.setFocusEmulationEnabled", { enabled: true });
    await this.resize(size);
  }

  #take(message: Message) {
    if (message.id !== undefined) {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) waiting?.reject(new Error(message.error.message));
      else waiting?.resolve(message.result ?? {});
      return;
    }
    const { params = {} } = message;
    if (message.method === "Network.requestWillBeSent") {
      this.requested.push(String((params.request as Json).url));
    } else if (message.method === "Runtime.exceptionThrown") {
      this.problems.push(JSON.stringify(params.exceptionDetails));
    } else if (
      message.method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(String(params.type))
    ) {
      this.problems.push(JSON.stringify(params.args));
    } else if (message.method === "Log.entryAdded") {
      const { level, text, url } = params.entry as Json;
      if (level !== "verbose" && level !== "info") this.problems.push(`${text} ${url ?? ""}`);
    } else if (message.method === "Page.javascriptDialogOpening") {
      this.problems.push(`dialog: ${params.message}`);
      this.send("Page.handleJavaScriptDialog", { accept: false }).catch(() => {}); // the page may be gone
    }
  }

  /** Sends one command of the DevTools protocol. */
  send(method: string, params: Json = {}): Promise<Json> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
    });
  }

  async resize(size: { width: number; height: number }) {
    await this.send("Emulation.setDeviceMetricsOverride", {
      ...size,
      deviceScaleFactor: 1,
      mobile: false,
    });
  }

  /** What people set in their system: `{ "prefers-color-scheme": "dark" }`. */
  async prefer(features: Record<string, string>) {
    await this.send("Emulation.setEmulatedMedia", {
      features: Object.entries(features).map(([name, value]) => ({ name, value })),
    });
  }

  async goto(url: string) {
    await this.send("Page.navigate", { url });
    await this.until("document.readyState === 'complete' && location.href !== 'about:blank'");
  }

  /** The value of an expression in the page. @throws what it throws there. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as Json).value;
  }

  /** Waits until an expression in the page is true. @throws with what the page shows after `limitMs`. */
  async until(expression: string, limitMs = 30_000) {
    const deadline = performance.now() + limitMs;
    while (performance.now() < deadline) {
      // A page that is just being replaced cannot answer.
      const value = await this.evaluate(`Boolean(${expression})`).catch(() => false);
      if (value === true) return;
      await new Promise((done) => setTimeout(done, 20));
    }
    const text = await this.evaluate("document.body.innerText");
    throw new Error(`Not within ${limitMs} ms: ${expression}\nThe page shows:\n${text}`);
  }

  /** Waits until the page shows a text. */
  async shows(text: string, within = "body") {
    await this.until(
      `document.querySelector(${JSON.stringify(within)})?.innerText.includes(${JSON.stringify(text)})`,
    );
  }

  /** Presses and lets go of keys: a name such as `Tab` or `Shift+Tab`, or one character. */
  async press(...keys: string[]) {
    const codes: Record<string, number> = {
      Tab: 9,
      Enter: 13,
      Escape: 27,
      " ": 32,
      ArrowUp: 38,
      ArrowDown: 40,
    };
    for (const name of keys) {
      const key = name.replace(/^Shift\+/, "");
      const text = key === "Enter" ? "\r" : key.length === 1 ? key : undefined;
      const common = {
        key,
        code: key === " " ? "Space" : key,
        modifiers: name === key ? 0 : 8,
        windowsVirtualKeyCode: codes[key] ?? 0,
      };
      await this.send("Input.dispatchKeyEvent", { ...common, type: text ? "keyDown" : "rawKeyDown", text });
      await this.send("Input.dispatchKeyEvent", { ...common, type: "keyUp" });
    }
  }

  /** Types into what has the focus. */
  async type(text: string) {
    await this.send("Input.insertText", { text });
  }

  /** Presses the middle of an element with the mouse, as soon as it is there. */
  async click(selector: string) {
    const element = `document.querySelector(${JSON.stringify(selector)})`;
    await this.until(element);
    const box = await this.evaluate(
      `(() => { const it = ${element}; it.scrollIntoView({ block: "center" }); const { x, y, width, height } = ` +
        `it.getBoundingClientRect(); return [x + width / 2, y + height / 2]; })()`,
    ) as [number, number];
    for (const type of ["mousePressed", "mouseReleased"]) {
      const [x, y] = box;
      await this.send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  /** A picture of what is shown, as PNG. */
  async picture(): Promise<Uint8Array<ArrayBuffer>> {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Uint8Array.from(atob(String(data)), (letter) => letter.charCodeAt(0));
  }

  async [Symbol.asyncDispose]() {
    this.#session = undefined;
    // It may be gone already; what counts is that it is gone afterwards.
    await Promise.race([this.send("Browser.close").catch(() => {}), this.child.status]);
    await endBrowser(this.child, this.errorOutput, this.profile);
    await this.#closed.promise;
  }
}

/** Gives a browser two seconds to go by itself, then ends it with all its helpers, and removes its profile. */
async function endBrowser(child: Deno.ChildProcess, errorOutput: Promise<void>, profile: string) {
  const timer = setTimeout(() => killGroup(child.pid), 2_000);
  await child.status;
  clearTimeout(timer);
  killGroup(child.pid);
  await errorOutput.catch(() => {}); // where it mattered, it has been reported
  for (let attempt = 0;; attempt++) {
    try {
      await Deno.remove(profile, { recursive: true });
      return;
    } catch (error) {
      // A helper that is just ending may still write into it.
      if (attempt === 50) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

function killGroup(pid: number) {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // nobody left: as wanted
  }
}

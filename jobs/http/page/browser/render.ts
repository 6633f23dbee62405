/**
 * The only module that writes into the page: everything shown follows from the state, besides notices and questions.
 *
 * @module
 */
import { byId, make, morph } from "./dom.ts";
import { jobList, jobView } from "./jobs_view.ts";
import { loadView } from "./load_view.ts";
import { place, type State, state } from "./state.ts";

export function render(): void {
  const app = byId("app");
  if (app === null) return;
  const hadFocus = app.contains(document.activeElement);
  morph(app, make("div", { id: "app" }, state.engine ? views(state) : signIn(state)));
  // A button that is gone (the job has ended) hands its focus to the job's title.
  if (hadFocus && !app.contains(document.activeElement)) (byId("job-title") ?? byId("main"))?.focus();
}

function signIn({ refusal }: State): HTMLElement {
  const field = {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
    autofocus: true,
    "aria-invalid": refusal !== "" && "true",
    "aria-describedby": "wrong",
  };
  const form = make("form.card", { id: "sign-in" }, [
    make("h1", "Jobs"),
    make("label", { for: "token" }, "Client token"),
    make("input", field),
    make("p", { id: "wrong", role: "alert" }, refusal),
    make("button.main", "Sign in"),
    make("p.dim", "It stays in this tab and is forgotten when the tab closes."),
  ]);
  return make("main.door", form);
}

function views(state: State): HTMLElement[] {
  const { view, id } = place();
  const tab = (name: string, text: string) =>
    make("a", { href: `#/${name}`, "aria-current": view === name && "page" }, text);
  const [live, liveText] = state.engine?.isLive ? ["span.live.on", "Live"] : ["span.live", "Connecting…"];
  return [
    make("a.skip", { href: "#main", "data-do": "skip" }, "Skip to content"),
    make("header", [
      make("nav", { "aria-label": "Views" }, tab("jobs", "Jobs"), tab("load", "Workers")),
      make(live, { role: "status" }, liveText),
      make("a.quiet", { href: "_public/docs" }, "API"),
      make("button.quiet", { "data-do": "leave" }, "Sign out"),
    ]),
    view === "load" ? loadView(state) : make(
      id ? "main.split.has-job" : "main.split",
      { id: "main", tabindex: -1 },
      jobList(state, id),
      jobView(state, id),
    ),
  ];
}

/** Shows a text to eyes and screen readers, for a while. */
export function notify(text: string): void {
  const notice = byId("notice");
  if (notice === null) return;
  notice.textContent = text;
  setTimeout(() => {
    if (notice.textContent === text) notice.textContent = "";
  }, 6000);
}

/** Asks before something that cannot be undone. The browser keeps the focus inside, and gives it back. */
export function confirmed(question: string, verb: string): Promise<boolean> {
  const dialog = make("dialog", { "aria-labelledby": "question" }, [
    make("p", { id: "question" }, question),
    make("div.row", [
      make("button", { value: "no", autofocus: true }, "Keep it"),
      make("button.danger", { value: "yes" }, verb),
    ]),
  ]) as HTMLDialogElement;
  document.body.append(dialog);
  dialog.onclick = ({ target }) => {
    if (target instanceof HTMLButtonElement) dialog.close(target.value);
  };
  dialog.showModal();
  return new Promise((answer) =>
    dialog.onclose = () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    }
  );
}

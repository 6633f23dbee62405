/**
 * The only module that writes into the page: everything shown follows from the state, besides notices and questions.
 *
 * @module
 */
import { byId, make, morph } from "./dom.ts";
import { jobList } from "./job_list.ts";
import { jobView } from "./job_view.ts";
import { loadView } from "./load_view.ts";
import { header, signIn } from "./shell.ts";
import { place, type State, state } from "./state.ts";

/** Shows the state. */
export function render(): void {
  const app = byId("app");
  if (app === null) return;
  const hadFocus = app.contains(document.activeElement);
  morph(app, make("div", { id: "app" }, state.engine ? views(state) : signIn(state)));
  // A button that is gone (the job has ended) hands its focus to the job's title.
  if (hadFocus && !app.contains(document.activeElement)) (byId("job-title") ?? byId("main"))?.focus();
}

function views(state: State): HTMLElement[] {
  const at = place();
  return [
    make("a.skip", { href: "#main", "data-do": "skip" }, "Skip to content"),
    header(state, at),
    at.view === "load" ? loadView(state) : make(
      at.id ? "main.split.has-job" : "main.split",
      { id: "main", tabindex: -1 },
      jobList(state, at.id),
      jobView(state, at.id),
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
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  dialog.append(
    make("p", { id: "question" }, question),
    make("div.row", [
      make("button", { value: "no", autofocus: true }, "Keep it"),
      make("button.danger", { value: "yes" }, verb),
    ]),
  );
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

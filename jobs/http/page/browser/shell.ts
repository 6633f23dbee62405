/**
 * What surrounds the views: signing in, and the header.
 *
 * @module
 */
import { make } from "./dom.ts";
import type { Place, State } from "./state.ts";

/** Asks for a client's token. */
export function signIn({ refusal }: State): HTMLElement {
  return make(
    "main.door",
    make("form.card", { id: "sign-in" }, [
      make("h1", "Jobs"),
      make("label", { for: "token" }, "Client token"),
      make("input", {
        id: "token",
        type: "password",
        autocomplete: "current-password",
        required: true,
        autofocus: true,
        "aria-invalid": refusal !== "" && "true",
        "aria-describedby": "wrong",
      }),
      make("p", { id: "wrong", role: "alert" }, refusal),
      make("button.main", "Sign in"),
      make("p.dim", "It stays in this tab and is forgotten when the tab closes."),
    ]),
  );
}

/** The views, whether events come in, and signing out. */
export function header({ engine }: State, { view }: Place): HTMLElement {
  const tab = (name: string, text: string) =>
    make("a", { href: `#/${name}`, "aria-current": view === name && "page" }, text);
  const [selector, text] = engine?.isLive ? ["span.live.on", "Live"] : ["span.live", "Connecting…"];
  return make("header", [
    make("nav", { "aria-label": "Views" }, tab("jobs", "Jobs"), tab("load", "Workers")),
    make(selector, { role: "status" }, text),
    make("a.quiet", { href: "_public/docs" }, "API"),
    make("button.quiet", { "data-do": "leave" }, "Sign out"),
  ]);
}

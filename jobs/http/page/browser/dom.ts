/**
 * Makes elements of values, and makes a page look like them with the fewest changes. Texts become text nodes, so
 * nothing that a job or a worker says becomes markup.
 *
 * @module
 */

/** What stands in an element; what is missing or false is left out. */
export type Content = Node | string | number | false | null | undefined | Content[];

/** Attributes of an element; `true` sets one without a value, what is missing or false is left out. */
export type Attributes = { readonly [name: string]: string | number | boolean | null | undefined };

/** An element of HTML: `make("p.dim", { id: "note" }, "text", other)`. */
export function make(selector: string, ...content: (Attributes | Content)[]): HTMLElement {
  const [name = "", ...classes] = selector.split(".");
  return fill(document.createElement(name), classes, content);
}

/** An element of a drawing, likewise. */
export function draw(selector: string, ...content: (Attributes | Content)[]): SVGElement {
  const [name = "", ...classes] = selector.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name) as SVGElement, classes, content);
}

function fill<Made extends Element>(
  element: Made,
  classes: readonly string[],
  content: readonly (Attributes | Content)[],
): Made {
  if (classes.length > 0) element.setAttribute("class", classes.join(" "));
  for (const item of content) {
    if (item === undefined || item === null || item === false) continue;
    if (Array.isArray(item)) fill(element, [], item);
    else if (item instanceof Node) element.append(item);
    else if (typeof item !== "object") element.append(String(item));
    else {
      for (const [name, value] of Object.entries(item)) {
        if (value === undefined || value === null || value === false) continue;
        element.setAttribute(name, value === true ? "" : String(value));
      }
    }
  }
  return element;
}

/** An element by its id. */
export function byId(id: string): HTMLElement | null {
  return document.getElementById(id);
}

/** Makes `old` look like `fresh`, which is used up: focus, scrolling, selection and what is unfolded stay. */
export function morph(old: Element, fresh: Element): void {
  morphAttributes(old, fresh);
  const keys = new Set([...fresh.childNodes].map(keyOf));
  const keyed = new Map<string, Node>();
  for (const child of [...old.childNodes]) {
    const key = keyOf(child);
    if (key === undefined) continue;
    if (keys.has(key)) keyed.set(key, child);
    else child.remove();
  }
  let next: Node | null = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    const same = key === undefined ? next : keyed.get(key);
    if (!same || same.nodeName !== child.nodeName || keyOf(same) !== key) old.insertBefore(child, next);
    else {
      if (same === next) next = next.nextSibling;
      else old.insertBefore(same, next);
      if (same instanceof Element && child instanceof Element) morph(same, child);
      else if (same.nodeValue !== child.nodeValue) same.nodeValue = child.nodeValue;
    }
  }
  while (next) {
    const gone: Node = next;
    next = next.nextSibling;
    old.removeChild(gone);
  }
}

function morphAttributes(old: Element, fresh: Element): void {
  // Whether details are unfolded is the reader's business.
  const own = (element: Element) => [...element.attributes].filter(({ name }) => name !== "open");
  for (const { name } of own(old)) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of own(fresh)) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function keyOf(node: Node): string | undefined {
  return node instanceof HTMLElement ? node.dataset.key : undefined;
}

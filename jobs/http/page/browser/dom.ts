/**
 * Makes elements of values, and makes a page look like them with the fewest changes. Texts become text nodes, so
 * nothing from a job or a worker becomes markup.
 *
 * @module
 */

/** Attributes of an element; `true` sets one without a value, what is missing or false is left out. */
export type Attributes = { readonly [name: string]: string | number | boolean | undefined };

/** What an element is made of; what is missing or false is left out. */
export type Content = Node | Attributes | string | number | false | null | undefined | Content[];

/** An element of HTML: `make("p.dim", { id: "note" }, "text", other)`. */
export const make = maker((name) => document.createElement(name));

/** An element of a drawing, likewise. */
export const draw = maker((name) => document.createElementNS("http://www.w3.org/2000/svg", name));

function maker<Made extends Element>(create: (name: string) => Made) {
  return (selector: string, ...content: Content[]): Made => {
    const [name = "", ...classes] = selector.split(".");
    const element = create(name);
    if (classes.length > 0) element.setAttribute("class", classes.join(" "));
    fill(element, content);
    return element;
  };
}

function fill(element: Element, content: Content[]): void {
  for (const item of content) {
    if (item === undefined || item === null || item === false) continue;
    if (Array.isArray(item)) fill(element, item);
    else if (item instanceof Node || typeof item !== "object") element.append(item as Node | string);
    else {
      for (const [name, value] of Object.entries(item)) {
        if (value !== undefined && value !== false) {
          element.setAttribute(name, value === true ? "" : `${value}`);
        }
      }
    }
  }
}

export function byId(id: string): HTMLElement | null {
  return document.getElementById(id);
}

/** Makes `old` look like `fresh`, which is used up: focus, scrolling, selection and what is unfolded stay. */
export function morph(old: Element, fresh: Element): void {
  for (const name of [...old.getAttributeNames(), ...fresh.getAttributeNames()]) {
    const value = fresh.getAttribute(name);
    if (name === "open") continue; // what is unfolded is the reader's business
    if (value === null) old.removeAttribute(name);
    else if (value !== old.getAttribute(name)) old.setAttribute(name, value);
  }
  const known = Map.groupBy(old.childNodes, kindOf);
  const children = [...fresh.childNodes].map((child) => {
    const same = known.get(kindOf(child))?.shift();
    if (same instanceof Element && child instanceof Element) morph(same, child);
    else if (same && same.nodeValue !== child.nodeValue) same.nodeValue = child.nodeValue;
    return same ?? child;
  });
  for (const gone of [...known.values()].flat()) gone.remove();
  let next = old.firstChild;
  for (const child of children) {
    if (child === next) next = next.nextSibling;
    else old.insertBefore(child, next);
  }
}

/** What a node may become: another one of the same name and, where it has one, the same key. */
function kindOf(node: Node): string {
  return node instanceof HTMLElement ? `${node.nodeName} ${node.dataset.key ?? ""}` : node.nodeName;
}

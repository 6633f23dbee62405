/**
 * Orders what depends on each other.
 *
 * @module
 */

/**
 * All nodes in an order in which each follows what it needs, otherwise as given; and the first cycles, each as a walk
 * that ends where it began. With a cycle the order is incomplete.
 *
 * @param most how many cycles are looked for
 */
export function inOrder<Node>(
  nodes: readonly Node[],
  needs: (node: Node) => readonly Node[],
  most = 1,
): { order: Node[]; cycles: Node[][] } {
  const order = new Set<Node>();
  const cycles: Node[][] = [];
  for (const start of nodes) {
    const walk = new Set<Node>();
    // An explicit stack: a chain of ten thousand nodes must not overflow the engine's.
    const todo = [{ node: start, isLeft: false }];
    for (let next = todo.pop(); next !== undefined && cycles.length < most; next = todo.pop()) {
      const { node, isLeft } = next;
      if (isLeft) {
        walk.delete(node);
        order.add(node);
      } else if (walk.has(node)) cycles.push([...[...walk].slice([...walk].indexOf(node)), node]);
      else if (!order.has(node)) {
        walk.add(node);
        todo.push({ node, isLeft: true });
        for (const needed of needs(node).toReversed()) todo.push({ node: needed, isLeft: false });
      }
    }
  }
  return { order: [...order], cycles };
}

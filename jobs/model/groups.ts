/**
 * Values in groups.
 *
 * @module
 */

/** Sets of values by key. A group without any is not kept. */
export class Groups<K, V> extends Map<K, Set<V>> {
  add(key: K, value: V): void {
    this.getOrInsertComputed(key, () => new Set()).add(value);
  }

  remove(key: K, value: V): void {
    const values = this.get(key);
    if (values?.delete(value) && values.size === 0) this.delete(key);
  }
}

/**
 * Cells as lines with aligned columns.
 *
 * @module
 */

import { displayWidth, loadMeasure } from "./text.ts";

/** Cells as lines with aligned columns. */
export async function tableText(cells: readonly (readonly string[])[]): Promise<string> {
  if (cells.some((line) => line.some((cell) => !/^[\x20-\x7e]*$/.test(cell)))) await loadMeasure();
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((line) => displayWidth(line[column] ?? "")))) ?? [];
  return cells.map((line) =>
    line.map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - displayWidth(cell))).join("  ")
      .trimEnd()
  ).join("\n");
}

/**
 * Cells as lines with aligned columns.
 *
 * @module
 */

import { displayWidth, loadMeasure } from "./text.ts";

/** Cells as lines with aligned columns. `paint` may colour a cell. */
export async function tableText(
  cells: readonly (readonly string[])[],
  paint: (cell: string, row: number, column: number) => string = (cell) => cell,
): Promise<string> {
  if (cells.some((line) => line.some((cell) => !/^[\x20-\x7e]*$/.test(cell)))) await loadMeasure();
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((line) => displayWidth(line[column] ?? "")))) ?? [];
  return cells.map((line, row) =>
    line.map((cell, column) =>
      paint(cell, row, column) + " ".repeat((widths[column] ?? 0) - displayWidth(cell))
    ).join("  ").trimEnd()
  ).join("\n");
}

/**
 * Text from elsewhere, made safe to show.
 *
 * @module
 */

/** A text without control codes, which would move the cursor or color the screen; line feeds and tabs stay. */
export function stripControl(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
}

/** Many numbers as people paste them: one a line, or the first column of a table. */

export const CHUNK = 1_000; // the API takes so many at once
export const LINES_MAX = 50_000;

/** A number and the line it stands on, counted from 1. */
export interface Line {
  line: number;
  number: string;
}

/** Return what could be a number, line by line; what has no digit at all, such as a heading, is passed over. */
export function lines(text: string): Line[] {
  return text
    .split(/\r?\n/)
    .map((row, index) => ({
      line: index + 1,
      number: (row.split(/[\t,;，；]/)[0] ?? "").replace(/["'\s]/g, "").slice(0, 40),
    }))
    .filter((one) => /\d/.test(one.number));
}

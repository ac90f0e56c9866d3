/**
 * Pieces of a text that something is said of. The API counts code points, a textarea counts UTF-16 units: everything
 * here is in units, inUnits() brings an answer of the API there.
 */
export type Level = "error" | "warning" | "advice";

export interface Mark {
  key: number;
  start: number;
  end: number;
  level: Level;
}

export interface Piece {
  text: string; // "": a place between two characters
  level: Level | null;
  keys: number[];
  variable: boolean;
}

export const VARIABLE = /\$?\{([A-Za-z][A-Za-z0-9_]{0,24})\}/g;
const STRICTNESS: Record<Level, number> = { error: 3, warning: 2, advice: 1 };

/** The names of the variables in the order in which they first stand. */
export function namesIn(body: string): string[] {
  return [...new Set([...body.matchAll(VARIABLE)].map((found) => found[1]!))];
}

export function inUnits<M extends { start: number; end: number; level: Level }>(
  text: string,
  said: M[],
): Mark[] {
  const at: number[] = [];
  let units = 0;
  for (const character of text) {
    at.push(units);
    units += character.length;
  }
  at.push(units);
  return said.map((one, key) => ({
    key,
    start: at[one.start] ?? units,
    end: at[one.end] ?? units,
    level: one.level,
  }));
}

/** Where marks of a text stand after it was changed, until the server has looked at it anew. */
export function shifted(marks: Mark[], before: string, after: string): Mark[] {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < shorter - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  const cut = before.length - tail; // [head, cut) is what was changed
  const delta = after.length - before.length;
  const kept: Mark[] = [];
  for (const mark of marks) {
    const point = mark.start === mark.end;
    const start =
      mark.start < head || (mark.start === head && !point) ? mark.start : Math.max(head, mark.start + delta);
    const end = mark.end <= head && !point ? mark.end : Math.max(head, mark.end + delta);
    if (mark.start >= head && mark.end <= cut && cut > head && !point) continue; // what it was said of is gone
    if (end > start || point) kept.push({ ...mark, start: point ? end : start, end });
  }
  return kept;
}

/** Cut a text where marks and variables begin and end. */
export function pieces(text: string, marks: Mark[], withVariables = true): Piece[] {
  const variables = withVariables
    ? [...text.matchAll(VARIABLE)].map((found) => [found.index, found.index + found[0].length] as const)
    : [];
  const cuts = new Set([0, text.length]);
  for (const mark of marks) cuts.add(Math.min(mark.start, text.length)).add(Math.min(mark.end, text.length));
  for (const [start, end] of variables) cuts.add(start).add(end);
  const places = [...cuts].sort((a, b) => a - b);
  const found: Piece[] = [];
  const points = (at: number): void => {
    const here = marks.filter((mark) => mark.start === mark.end && Math.min(mark.start, text.length) === at);
    if (here.length) found.push({ text: "", ...worst(here), variable: false });
  };
  places.forEach((start, index) => {
    points(start);
    const end = places[index + 1];
    if (end === undefined) return;
    const over = marks.filter((mark) => mark.start <= start && mark.end >= end);
    const variable = variables.some(([from, to]) => from <= start && to >= end);
    found.push({ text: text.slice(start, end), ...worst(over), variable });
  });
  return found;
}

function worst(marks: Mark[]): { level: Level | null; keys: number[] } {
  const strictest = [...marks].sort((a, b) => STRICTNESS[b.level] - STRICTNESS[a.level])[0];
  return { level: strictest?.level ?? null, keys: marks.map((mark) => mark.key) };
}

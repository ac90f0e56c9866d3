/** A span of time as it stands in an address: "" (what the route takes by itself), "1d" (the last day), or "from~to". */
export interface Between {
  from?: string;
  to?: string;
}

const UNIT_MS: Record<string, number> = { h: 3_600_000, d: 86_400_000 };
const SHORT_MS = 600_000; // of days: routes take at most so many, by a clock that may be ahead of ours

/** Return from and to as the API wants them. What cannot be read is no span. */
export function between(span: string): Between {
  const lately = /^(\d{1,3})([hd])$/.exec(span);
  if (lately) {
    const length = Number(lately[1]) * UNIT_MS[lately[2]!]! - (lately[2] === "d" ? SHORT_MS : 0);
    return { from: new Date(Date.now() - length).toISOString() };
  }
  const [from, to] = span.split("~");
  return { from: moment(from), to: moment(to) };
}

function moment(written: string | undefined): string | undefined {
  if (!written) return undefined;
  const at = new Date(written);
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

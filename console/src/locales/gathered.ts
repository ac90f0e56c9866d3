/** Return the files of a language as one: ./zh/frame.json holds what is under `frame`. */
export function gathered(files: Record<string, Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(files).map(([path, words]) => [path.replace(/^.*\/|\.json$/g, ""), words]),
  );
}

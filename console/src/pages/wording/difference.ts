/** What is different between two texts, word by word; a Chinese character and a variable are words of their own. */
export interface Change {
  text: string;
  how: "same" | "gone" | "new";
}

const WORDS = /\$?\{[A-Za-z]\w{0,24}\}|[A-Za-z0-9]+|\s+|[^]/gu;

export function difference(before: string, after: string): Change[] {
  const old = before.match(WORDS) ?? [];
  const now = after.match(WORDS) ?? [];
  const width = now.length + 1;
  // longest[i][j]: how many words old[i:] and now[j:] have in common, in their order
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--)
      longest[i * width + j] =
        old[i] === now[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
  const changes: Change[] = [];
  const add = (text: string, how: Change["how"]): void => {
    const last = changes.at(-1);
    if (last?.how === how) last.text += text;
    else changes.push({ text, how });
  };
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      add(old[i++]!, "same");
      j++;
    } else if (
      i < old.length &&
      (j === now.length || longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!)
    )
      add(old[i++]!, "gone");
    else add(now[j++]!, "new");
  }
  return changes;
}

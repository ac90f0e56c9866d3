/** Reads a request that somebody pasted: a curl command or raw HTTP, into what the debugger asks about. */

export interface Read {
  method: string;
  target: string;
  authorization: string;
  body: string;
}

/** Return the request; null where it is neither. */
export function read(pasted: string): Read | null {
  const text = pasted.trim();
  if (/^(\$\s*)?curl(\.exe)?\s/.test(text)) return ofCurl(text.replace(/^\$\s*/, ""));
  if (/^[A-Z]+ \S+( HTTP\/[\d.]+)?\r?\n/.test(text)) return ofHttp(pasted.replace(/^\s+/, ""));
  return null;
}

/** Split a command as a POSIX shell does, without variables. */
export function words(command: string): string[] {
  const found: string[] = [];
  let word = "";
  let begun = false;
  for (let at = 0; at < command.length; at++) {
    const sign = command[at]!;
    if (sign === "'" || (sign === "$" && command[at + 1] === "'")) {
      const escaped = sign === "$";
      if (escaped) at++;
      let part = "";
      while (++at < command.length && command[at] !== "'") {
        if (escaped && command[at] === "\\") part += ESCAPES[command[++at]!] ?? command[at];
        else part += command[at];
      }
      word += part;
      begun = true;
    } else if (sign === '"') {
      while (++at < command.length && command[at] !== '"') {
        if (command[at] === "\\" && '"\\$`\n'.includes(command[at + 1] ?? "")) {
          if (command[++at] !== "\n") word += command[at];
        } else word += command[at];
      }
      begun = true;
    } else if (sign === "\\") {
      const next = command[++at];
      if (next === "\r") at++;
      else if (next !== "\n") {
        word += next ?? "";
        begun = true;
      }
    } else if (/\s/.test(sign)) {
      if (begun) found.push(word);
      word = "";
      begun = false;
    } else {
      word += sign;
      begun = true;
    }
  }
  if (begun) found.push(word);
  return found;
}

const ESCAPES: Record<string, string> = { n: "\n", r: "\r", t: "\t", "'": "'", '"': '"', "\\": "\\" };
const DATA = ["-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--json"];
const TAKES_ONE = [
  "-o",
  "--output",
  "-A",
  "--user-agent",
  "-e",
  "-b",
  "-c",
  "-m",
  "--max-time",
  "-x",
  "--proxy",
  "-w",
];

function ofCurl(command: string): Read {
  const rest = words(command).slice(1);
  const request: Read = { method: "", target: "", authorization: "", body: "" };
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at]!;
    const [name, value] = optionOf(word);
    const given = (): string => value ?? rest[++at] ?? "";
    if (name === "-X" || name === "--request") request.method = given().toUpperCase();
    else if (name === "-H" || name === "--header") header(request, given());
    else if (DATA.includes(name)) {
      let data = given();
      // curl takes line ends out of what -d reads from a file only; what stands in the command is sent as it is.
      if (data.startsWith("@")) data = "";
      request.body = request.body ? `${request.body}&${data}` : data;
    } else if (name === "-u" || name === "--user") request.authorization = `Basic ${btoa(given())}`;
    else if (name === "--url") request.target = given();
    else if (TAKES_ONE.includes(name)) at++;
    else if (!word.startsWith("-")) request.target = word;
  }
  request.method ||= request.body ? "POST" : "GET";
  return request;
}

function optionOf(word: string): [string, string | undefined] {
  if (word.startsWith("--")) {
    const at = word.indexOf("=");
    return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
  }
  return /^-[XHdu]./.test(word) ? [word.slice(0, 2), word.slice(2)] : [word, undefined];
}

function header(request: Read, line: string): void {
  const at = line.indexOf(":");
  if (line.slice(0, at).trim().toLowerCase() === "authorization")
    request.authorization = line.slice(at + 1).trim();
}

function ofHttp(text: string): Read {
  const end = /\r?\n\r?\n/.exec(text);
  const head = end ? text.slice(0, end.index) : text;
  const [first, ...lines] = head.split(/\r?\n/);
  const [method, target] = first!.split(" ");
  const request: Read = { method: method!, target: target!, authorization: "", body: "" };
  for (const line of lines) header(request, line);
  if (end) request.body = text.slice(end.index + end[0].length);
  return request;
}

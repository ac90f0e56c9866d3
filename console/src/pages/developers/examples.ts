/**
 * The programs of docs/api, with somebody's own message in them. They are cut out of the pages at build, so that what is
 * shown here is what the tests run; only the message is another one. The secret is read from the environment.
 */
import authentication from "../../../../docs/api/authentication.md?raw";
import webhooks from "../../../../docs/api/webhooks.md?raw";

export interface Message {
  to: string;
  signature: string;
  template: string;
  params: Record<string, string>;
}

export interface Example {
  name: string;
  fence: string; // of the block in authentication.md
  file: string;
  run: string;
  basic?: boolean; // only for keys that allow it
}

export const EXAMPLES: Example[] = [
  { name: "curl", fence: "shell", file: "send.sh", run: "sh send.sh", basic: true },
  { name: "curl+", fence: "sh", file: "send.sh", run: "sh send.sh" },
  { name: "Python", fence: "python", file: "send.py", run: "python3 send.py" },
  { name: "Java", fence: "java", file: "Send.java", run: "java Send.java" },
  { name: "PHP", fence: "php", file: "send.php", run: "php send.php" },
  { name: "Node.js", fence: "javascript", file: "send.mjs", run: "node send.mjs" },
];

function block(page: string, fence: string): string {
  return new RegExp(`^\`\`\`${fence}\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(page)?.[1] ?? "";
}

/** Where the message stands in each program, and how it is written there. */
const PLACES: Record<string, [RegExp, (message: Message) => string]> = {
  shell: [/^body='.*'$/m, (one) => `body='${JSON.stringify(one).replaceAll("'", "'\\''")}'`],
  sh: [/^body='.*'$/m, (one) => `body='${JSON.stringify(one).replaceAll("'", "'\\''")}'`],
  python: [/^message = \{[\s\S]*?^\}$/m, (one) => `message = ${JSON.stringify(one, null, 4)}`],
  javascript: [
    /JSON\.stringify\(\{[\s\S]*?^\}\)/m,
    (one) => `JSON.stringify(${JSON.stringify(one, null, 2)})`,
  ],
  php: [/json_encode\(\[[\s\S]*?^\]\)/m, (one) => `json_encode(${php(one, "")})`],
  java: [/"""\n\s*\{.*\}\n/, (one) => `"""\n            ${JSON.stringify(one).replaceAll("\\", "\\\\")}\n`],
};

function php(value: string | object, indent: string): string {
  if (typeof value === "string") return `"${value.replace(/[\\"$]/g, "\\$&")}"`;
  const inner = `${indent}    `;
  const rows = Object.entries(value).map(
    ([name, one]) => `${inner}${php(name, "")} => ${php(one as string, inner)},`,
  );
  return rows.length ? `[\n${rows.join("\n")}\n${indent}]` : "new stdClass()";
}

/** Return the program of an example that sends a message. */
export function program(example: Example, message: Message): string {
  const [place, written] = PLACES[example.fence]!;
  return block(authentication, example.fence)
    .replace(place, () => written(message))
    .trimEnd();
}

/** Return what has to be set before: where, as whom, and the secret, which is typed and stays out of the history. */
export function environment(door: string, keyId: string): string {
  return [
    `export DOOR_URL=${door} APP_KEY_ID=${keyId}`,
    "printf 'APP_KEY_SECRET: '; stty -echo; read -r APP_KEY_SECRET; stty echo; export APP_KEY_SECRET",
  ].join("\n");
}

/** The check of a POST to a webhook, in Python. */
export const WEBHOOK_CHECK = block(webhooks, "python").trimEnd();

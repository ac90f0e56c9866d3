// Make src/api/schema.d.ts (types of all routes) and src/api/tenanted.json (the routes that take ?tenant_id=) from
// openapi.json, which the Makefile writes with `hongyan openapi`.
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";

const described = JSON.parse(await readFile("openapi.json", "utf8"));
await writeFile("src/api/schema.d.ts", astToString(await openapiTS(described)));
const tenanted = [];
for (const [path, methods] of Object.entries(described.paths))
  for (const [method, operation] of Object.entries(methods))
    // Where the platform says by tenant_id which row is meant, it is no "on whose behalf".
    if (
      operation["x-reach"] !== "platform" &&
      operation.parameters?.some((one) => one.name === "tenant_id" && one.in === "query")
    )
      tenanted.push(`${method.toUpperCase()} ${path}`);
await writeFile("src/api/tenanted.json", JSON.stringify(tenanted, null, 1));

// Calls the relay of `cargo dev` and prints the JSON of the response, indented. The script target/dev/api runs it.

import { readFileSync } from "node:fs";

const USAGE = `usage: api [METHOD] PATH [JSON]
  api /v1/events
  api /v1/replays '{"filter":{"source":"demo"}}'
  api PATCH /v1/destinations/demo '{"rate_limit":{"limit":5,"per":"second"}}'
The method is GET, or POST if there is JSON.`;

/** The values of the arguments; undefined if they are wrong. */
function read(given) {
  const method = /^[A-Z]+$/.test(given[0] ?? "") ? given.shift() : undefined;
  const [path, body, ...more] = given;
  if (!path?.startsWith("/") || more.length > 0) return undefined;
  return { method: method ?? (body === undefined ? "GET" : "POST"), path, body };
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function fail(code, text) {
  console.error(text);
  process.exit(code);
}

const [stackFile, ...given] = process.argv.slice(2);
const call = read(given);
if (call === undefined) fail(64, USAGE);
let stack;
try {
  stack = JSON.parse(readFileSync(stackFile, "utf8"));
} catch {
  fail(1, "api: `cargo dev` is not running: start it in another terminal, and wait for \"Tidegate is running\"");
}
const headers = { authorization: `Bearer ${stack.token}`, "content-type": "application/json" };
try {
  const response = await fetch(stack.relay + call.path, { method: call.method, headers, body: call.body });
  const text = await response.text();
  if (text !== "") console.log(indented(text));
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  fail(1, `api: the relay does not respond at ${stack.relay}: ${error.cause?.message ?? error.message}`);
}

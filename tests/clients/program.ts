// Uses the API through a generated client: types from openapi-typescript, calls by openapi-fetch. Nothing of them is
// edited. The test compiles this with `tsc --strict`, so a response that is not described exactly is an error.
// usage: node program.js, with the variables RELAY, TOKEN and DESTINATION_URL

import { strict as assert } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./tidegate.js";

type Event = components["schemas"]["Event"];
type Delivery = components["schemas"]["Delivery"];
type Problem = components["schemas"]["Problem"];
type Change = components["schemas"]["Change"];

const NAME = "typescript";
const EVENTS = 5;
const SOON_MS = 60_000;

const relay = variable("RELAY");
const api = client(variable("TOKEN"));

function variable(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value;
}

function client(token: string) {
  return createClient<paths>({ baseUrl: relay, headers: { authorization: `Bearer ${token}` } });
}

/** The data of a response that has succeeded. */
function ok<T>(result: { data?: T; error?: Problem; response: Response }): T {
  assert(result.data !== undefined, `${result.response.status}: ${JSON.stringify(result.error)}`);
  return result.data;
}

/** Asks until the answer is not undefined. */
async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + SOON_MS; Date.now() < end; await sleep(50)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  throw new Error(`waited too long for ${what}`);
}

/** Creates the source, the destination and the route, and returns where the source receives. */
async function create(): Promise<string> {
  const source = ok(
    await api.POST("/v1/sources", {
      body: { name: NAME, provider: "token", secrets: ["a-token"], config: { header: "x-token", on_failure: "reject" } },
    }),
  );
  const destination = ok(
    await api.POST("/v1/destinations", {
      body: { name: NAME, url: variable("DESTINATION_URL"), retry: { schedule_s: [0] } },
    }),
  );
  const route = ok(await api.POST("/v1/routes", { body: { source: source.id, destination: destination.id } }));
  assert.equal(route.enabled, true);
  return source.ingest_url;
}

/** Sends an event as its provider does, and returns its id. */
async function send(ingestUrl: string, number: number): Promise<string> {
  const headers = { "x-token": "a-token", "content-type": "application/json" };
  const response = await fetch(ingestUrl, { method: "POST", headers, body: JSON.stringify({ number }) });
  const answer: unknown = await response.json();
  assert(response.status === 200 && typeof answer === "object" && answer !== null && "id" in answer);
  return String(answer.id);
}

/** All events of the source, from pages of two. */
async function allEvents(): Promise<{ events: Event[]; pages: number }> {
  const events: Event[] = [];
  let pages = 0;
  let cursor: string | undefined;
  do {
    const query = { source: NAME, limit: 2, ...(cursor === undefined ? {} : { cursor }) };
    const page = ok(await api.GET("/v1/events", { params: { query } }));
    events.push(...page.data);
    pages += 1;
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return { events, pages };
}

async function deliveries(state?: Delivery["state"]): Promise<Delivery[]> {
  const query = { destination: NAME, limit: 100, ...(state === undefined ? {} : { state }) };
  return ok(await api.GET("/v1/deliveries", { params: { query } })).data;
}

/** The value of a field of a server-sent event. */
function field(event: string, name: string): string | undefined {
  const line = event.split("\n").find((line) => line.startsWith(`${name}: `));
  return line?.slice(name.length + 2);
}

/** Follows the stream of stored events: the positions, each with its change if it has one. Leaving it closes it. */
async function* follow(after?: string): AsyncGenerator<{ position: string; change: Change | undefined }> {
  const query = { source: NAME, kind: "event_stored" as const, ...(after === undefined ? {} : { after }) };
  const closing = new AbortController();
  const { data, error, response } = await api.GET("/v1/stream", {
    params: { query },
    parseAs: "stream",
    signal: closing.signal,
  });
  assert(data, `${response.status}: ${JSON.stringify(error)}`);
  const decoder = new TextDecoder();
  let text = "";
  try {
    for await (const bytes of data) {
      text += decoder.decode(bytes, { stream: true });
      const events = text.split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) {
        const [position, json] = [field(event, "id"), field(event, "data")];
        assert(position !== undefined, event);
        yield { position, change: json === undefined ? undefined : (JSON.parse(json) as Change) };
      }
    }
  } finally {
    closing.abort();
  }
}

/** Sends the events while a stream is followed, and follows it again from the middle. */
async function stream(ingestUrl: string): Promise<string[]> {
  const sent: string[] = [];
  const received: { position: string; id: string | undefined }[] = [];
  for await (const { position, change } of follow()) {
    if (sent.length === 0) {
      // The first position says that the stream has begun.
      for (let number = 0; number < EVENTS; number += 1) sent.push(await send(ingestUrl, number));
    }
    if (change !== undefined) received.push({ position, id: change.event?.id });
    if (received.length === EVENTS) break;
  }
  assert.deepEqual(new Set(received.map(({ id }) => id)), new Set(sent));
  const [middle, rest] = [received[2], received.slice(3)];
  assert(middle !== undefined);
  const again: typeof received = [];
  for await (const { position, change } of follow(middle.position)) {
    if (change !== undefined) again.push({ position, id: change.event?.id });
    if (again.length === rest.length) break;
  }
  assert.deepEqual(again, rest);
  return sent;
}

async function list(sent: string[]): Promise<void> {
  const { events, pages } = await until("all events", async () => {
    const all = await allEvents();
    return all.events.length === EVENTS ? all : undefined;
  });
  assert(pages >= 3, `${pages} pages`);
  assert.deepEqual(new Set(events.map((event) => event.id)), new Set(sent));
  const first = sent[0];
  assert(first !== undefined);
  const path = { id: first };
  const shown = ok(await api.GET("/v1/events/{id}", { params: { path } }));
  assert.equal(shown.verification, "verified");
  assert.equal(shown.headers.find((header) => header.name === "content-type")?.value, "application/json");
  const body = ok(await api.GET("/v1/events/{id}/body", { params: { path }, parseAs: "text" }));
  assert.equal(body, JSON.stringify({ number: 0 }));
}

/** The destination has refused the first delivery. */
async function retry(): Promise<void> {
  const dead = await until("a dead delivery", async () => (await deliveries("dead"))[0]);
  const path = { id: dead.id };
  ok(await api.POST("/v1/deliveries/{id}/retry", { params: { path } }));
  await until("the delivery to succeed", async () => {
    const delivery = ok(await api.GET("/v1/deliveries/{id}", { params: { path } }));
    return delivery.state === "succeeded" || undefined;
  });
  const attempts = ok(await api.GET("/v1/deliveries/{id}/attempts", { params: { path } }));
  assert.deepEqual(attempts.data.map((attempt) => attempt.status).sort(), [200, 500]);
}

async function replay(): Promise<void> {
  const replay = ok(await api.POST("/v1/replays", { body: { filter: { source: NAME } } }));
  // A dry run would answer with a plan.
  assert("id" in replay);
  const path = { id: replay.id };
  const completed = await until("the replay", async () => {
    const now = ok(await api.GET("/v1/replays/{id}", { params: { path } }));
    return now.state === "completed" ? now : undefined;
  });
  assert.equal(completed.processed, EVENTS);
  const all = await until("the replayed deliveries", async () => {
    const succeeded = await deliveries("succeeded");
    return succeeded.length === 2 * EVENTS ? succeeded : undefined;
  });
  assert.equal(all.filter((delivery) => delivery.replay_id === replay.id).length, EVENTS);
}

async function change(): Promise<void> {
  const params = { path: { id: NAME } };
  const limit = { limit: 100, per: "second" } as const;
  const changed = ok(await api.PATCH("/v1/destinations/{id}", { params, body: { rate_limit: limit } }));
  assert.deepEqual(changed.rate_limit, limit);
  const removed = ok(await api.PATCH("/v1/destinations/{id}", { params, body: { rate_limit: null } }));
  assert.equal(removed.rate_limit, null);
}

/** An error is a problem with its type, not just a status. */
async function problems(): Promise<void> {
  const unknown = { id: "no-such-destination" };
  const missing = await api.GET("/v1/destinations/{id}", { params: { path: unknown } });
  assert.equal(missing.response.status, 404);
  assert.equal(missing.error?.code, "not_found");

  const body = { source: NAME, destination: NAME, filter: "event.no_such_field == 1" };
  const invalid = await api.POST("/v1/routes", { body });
  assert.equal(invalid.response.status, 422);
  assert.equal(invalid.error?.type, "/problems/validation");
  assert.equal(invalid.error?.errors?.[0]?.field, "filter");

  const stranger = await client("tg_wrong").GET("/v1/sources");
  assert.equal(stranger.response.status, 401);
  assert.equal(stranger.data, undefined);
}

async function remove(): Promise<void> {
  const routes = ok(await api.GET("/v1/routes", { params: { query: { source: NAME } } }));
  for (const { id } of routes.data) {
    const { response } = await api.DELETE("/v1/routes/{id}", { params: { path: { id } } });
    assert.equal(response.status, 204);
  }
}

const ingestUrl = await create();
await list(await stream(ingestUrl));
await retry();
await replay();
await change();
await problems();
await remove();
console.log("all calls have succeeded");

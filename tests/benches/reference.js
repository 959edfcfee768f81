// The same work as the Worker's hot path, written by hand in JavaScript: verify an HMAC of the raw body, put a message
// with the headers and the body into the queue, answer with the event's id. What the Worker is compared with.
const SOURCES = new Map();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

async function source(env, id) {
  let found = SOURCES.get(id);
  if (!found) {
    const data = new TextEncoder().encode(env.SECRET);
    const key = await crypto.subtle.importKey("raw", data, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    found = { id, key };
    SOURCES.set(id, found);
  }
  return found;
}

function bytes(hex) {
  if (!/^([0-9a-f]{2}){32}$/i.test(hex)) return null;
  return Uint8Array.from({ length: 32 }, (_, at) => parseInt(hex.slice(2 * at, 2 * at + 2), 16));
}

function eventId(now) {
  const random = crypto.getRandomValues(new Uint8Array(10));
  const time = now.toString(16).padStart(12, "0");
  random[0] = (random[0] & 0x0f) | 0x70;
  random[2] = (random[2] & 0x3f) | 0x80;
  return "evt_" + time + Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (!url.pathname.startsWith("/in/")) return new Response("not found", { status: 404 });
    const { id, key } = await source(env, url.pathname.slice(4));
    const header = request.headers.get("x-hub-signature-256") ?? "";
    const signature = header.startsWith("sha256=") ? bytes(header.slice(7)) : null;
    const body = await request.arrayBuffer();
    if (!signature || !(await crypto.subtle.verify("HMAC", key, signature, body))) {
      return Response.json({ error: "signature_refused" }, { status: 401 });
    }
    const now = Date.now();
    const event = {
      v: 1, kind: "event", id: eventId(now), source: id, received_at_ms: now, method: request.method,
      query: url.search.slice(1), headers: [...request.headers], verification: "verified", body: { in: "text" },
    };
    await env.QUEUE.send(JSON.stringify(event) + "\n" + decoder.decode(body), { contentType: "text" });
    return Response.json({ id: event.id });
  },
};

// The same work as the Worker's hot path, written by hand in JavaScript, for a comparison with the Worker: it verifies
// the signature of the raw body with the platform's cryptography, sends a message with the headers and the body to the
// queue, and answers with the event's id.
const SOURCES = new Map();
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// How a provider signs: its key, its algorithm, the signature and the signed content. A signature that cannot be parsed
// is null.
const PROVIDERS = {
  github: {
    key: (secret) => ["raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }],
    algorithm: "HMAC",
    signature: (headers) => {
      const value = headers.get("x-hub-signature-256") ?? "";
      return value.startsWith("sha256=") ? hex(value.slice(7), 32) : null;
    },
    content: (headers, body) => body,
  },
  "standard-webhooks": {
    key: (secret) => ["raw", base64(secret.slice("whpk_".length)), "Ed25519"],
    algorithm: "Ed25519",
    signature: (headers) => {
      const value = headers.get("webhook-signature") ?? "";
      const fresh = Math.abs(Date.now() / 1000 - Number(headers.get("webhook-timestamp"))) <= 300;
      return fresh && value.startsWith("v1a,") ? base64(value.slice(4)) : null;
    },
    content: (headers, body) => join(`${headers.get("webhook-id")}.${headers.get("webhook-timestamp")}.`, body),
  },
  sendgrid: {
    key: (secret) => ["spki", base64(secret), { name: "ECDSA", namedCurve: "P-256" }],
    algorithm: { name: "ECDSA", hash: "SHA-256" },
    signature: (headers) => {
      const value = base64(headers.get("x-twilio-email-event-webhook-signature") ?? "");
      const fresh = Math.abs(Date.now() / 1000 - Number(headers.get("x-twilio-email-event-webhook-timestamp"))) <= 90000;
      return fresh && value ? pair(value) : null;
    },
    content: (headers, body) => join(headers.get("x-twilio-email-event-webhook-timestamp"), body),
  },
};

async function source(env, id) {
  let found = SOURCES.get(id);
  if (!found) {
    const provider = PROVIDERS[env.PROVIDER];
    const [form, data, algorithm] = provider.key(env.SECRET);
    const key = await crypto.subtle.importKey(form, data, algorithm, false, ["verify"]);
    found = { id, key, provider };
    SOURCES.set(id, found);
  }
  return found;
}

function hex(text, length) {
  if (text.length !== 2 * length || !/^[0-9a-f]*$/i.test(text)) return null;
  return Uint8Array.from({ length }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

function base64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

function join(before, body) {
  const content = new Uint8Array(before.length + body.byteLength);
  encoder.encodeInto(before, content);
  content.set(new Uint8Array(body), before.length);
  return content;
}

// The two numbers of an ECDSA signature in DER, 32 bytes each.
function pair(der) {
  const numbers = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    const number = der.subarray(at + 2, at + 2 + der[at + 1]);
    const digits = number.subarray(Math.max(0, number.length - 32));
    numbers.set(digits, end - digits.length);
    at += 2 + der[at + 1];
  }
  return numbers;
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
    const { id, key, provider } = await source(env, url.pathname.slice(4));
    const signature = provider.signature(request.headers);
    const body = await request.arrayBuffer();
    const content = provider.content(request.headers, body);
    if (!signature || !(await crypto.subtle.verify(provider.algorithm, key, signature, content))) {
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

// What the Worker asks of its host in one call each. A call between WebAssembly and JavaScript costs more than most of
// what it does, so everything that belongs together crosses together.

/** All that is read of a request besides its body: method, URL, and each header's name and value, a line each. */
export function head(request) {
  let head = request.method + "\n" + request.url;
  for (const [name, value] of request.headers) head += "\n" + name + "\n" + value;
  return head;
}

/**
 * The whole body, or undefined once it is larger than `cap` bytes: no more than that is ever held.
 * `declared` is the content-length, which the transport enforces, or -1 where the request states none.
 */
export function body(request, cap, declared) {
  if (request.body === null) return Promise.resolve(new Uint8Array(0));
  return declared >= 0 ? request.bytes() : capped(request.body, cap);
}

async function capped(stream, cap) {
  const chunks = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.byteLength;
    if (size > cap) return undefined;
    chunks.push(chunk);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

/** `headers` is a JSON list of pairs; `bytes` is a view of the Worker's memory and therefore copied. */
export function respond(status, headers, bytes) {
  return new Response(bytes.byteLength === 0 ? null : bytes.slice(), { status, headers: JSON.parse(headers) });
}

/** Puts a body into R2, which checks the digest on arrival, and answers the SHA-256 in hexadecimal. */
export async function store(bucket, key, bytes) {
  const sha256 = await crypto.subtle.digest("SHA-256", bytes);
  await bucket.put(key, bytes, { sha256 });
  return Array.from(new Uint8Array(sha256), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Reads a small public document; answers its status, its cache-control and, where it fits into `cap` bytes, its body.
 * It is asked for with POST where `question` is JSON, and with GET where that is undefined.
 */
export async function read_document(url, question, cap, timeout_ms) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: question };
  const asked = question === undefined ? {} : post;
  const response = await fetch(url, { ...asked, redirect: "manual", signal: AbortSignal.timeout(timeout_ms) });
  const content = response.ok && response.body !== null ? await capped(response.body, cap) : undefined;
  return [response.status, response.headers.get("cache-control") ?? "", content];
}

export function now() {
  return Date.now();
}

export function fill_random(bytes) {
  crypto.getRandomValues(bytes);
}

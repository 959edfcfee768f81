// The Worker's calls into its host. A call between WebAssembly and JavaScript costs more than most of the work behind
// it, so each function passes everything that belongs together at once.

/** The head of a request: method, URL, and the name and value of each header, a line each. */
export function head(request) {
  let head = request.method + "\n" + request.url;
  for (const [name, value] of request.headers) head += "\n" + name + "\n" + value;
  return head;
}

// How much of a body is read at a time, in bytes: at least, if there is so much, and at most.
const LEAST_PIECE = 65_536;
const MOST_PIECE = 262_144;

/** The whole body; null if there is none, undefined if it does not arrive within `within_ms` milliseconds. */
export function whole_body(request, within_ms) {
  return request.body === null ? Promise.resolve(null) : in_time(request.bytes(), within_ms);
}

/** The state from which `next_piece` reads. Every piece is read into the same memory. */
export function reader(request) {
  if (request.body === null) return null;
  return { from: request.body.getReader({ mode: "byob" }), memory: new ArrayBuffer(MOST_PIECE) };
}

/** The next piece; null at the end, undefined if it does not arrive within `within_ms` milliseconds. */
export async function next_piece(reader, within_ms) {
  if (reader === null) return null;
  const read = await in_time(reader.from.readAtLeast(LEAST_PIECE, new Uint8Array(reader.memory)), within_ms);
  if (read === undefined) {
    reader.from.cancel().catch(() => {});
    return undefined;
  }
  if (read.value === undefined || read.value.byteLength === 0) return null;
  reader.memory = read.value.buffer;
  return read.value;
}

/** The value of a promise; undefined if it takes longer than `within_ms` milliseconds. */
export async function in_time(promise, within_ms) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, within_ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
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

/**
 * Puts a body of `size` bytes into R2, which checks the digest on arrival, and returns the SHA-256 in hexadecimal.
 * `piece` returns a copy of the piece that begins at a byte: only a few pieces are held in addition to the body.
 */
export async function store(bucket, key, size, piece) {
  const digest = new crypto.DigestStream("SHA-256");
  await pour(digest, size, piece);
  const sha256 = await digest.digest;
  const { readable, writable } = new FixedLengthStream(size);
  await Promise.all([bucket.put(key, readable, { sha256 }), pour(writable, size, piece)]);
  return Array.from(new Uint8Array(sha256), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function pour(stream, size, piece) {
  const writer = stream.getWriter();
  for (let at = 0; at < size;) {
    const bytes = piece(at);
    if (bytes === undefined || bytes.byteLength === 0) throw new Error("the body is no longer held");
    at += bytes.byteLength;
    await writer.write(bytes);
  }
  await writer.close();
}

/**
 * Reads a small public document; returns its status, its cache-control and, if it has at most `cap` bytes, its body.
 * With a `question`, which is JSON, the method is POST, else GET.
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

// The Worker's entry: what arrives at a source whose configuration is in memory is decided by Rust in one call between
// two awaits; everything else goes through the Worker that worker-build makes.
//
// An await inside Rust costs two closures and a turn of its task queue, and worker-build's class a chain of proxies:
// together more than verifying and writing the message. This file decides nothing: where Rust says nothing, or anything
// here fails before the event is in the queue, the whole request is answered by the way that handles every case.
import Worker from "../build/index.js";

const { hashing, receive, receive_hashed, send_again } = Worker.prototype;
const state = globalThis.__worker_init_state;

// A body that fits into a message; what is larger goes to R2 first.
const MAX_BYTES = 127_000;
// From here on a body is hashed by the platform and never enters the memory of WebAssembly.
const LARGE_BYTES = 8_000;
// Where a large body is put together with what is hashed round it. To take fresh memory each time costs as much as hashing.
const room = new Uint8Array(MAX_BYTES + 4_096);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const TEXT = { contentType: "text" };

export default {
  async fetch(request, env, context) {
    const length = request.method === "POST" ? Number(request.headers.get("content-length")) : 0;
    if (!(length > 0 && length <= MAX_BYTES) || state.criticalError) return answer(request, env, context);
    let body;
    try {
      body = await request.bytes();
    } catch {
      return answer(request, env, context);
    }
    const head = JSON.stringify({ method: request.method, url: request.url, headers: [...request.headers] });
    const large = length > LARGE_BYTES ? await receive_large(head, body) : undefined;
    const received = large ?? halves(guarded(receive, head, body));
    if (received === undefined) return answer(new Request(request, { body }), env, context);
    const [reply, message] = received;
    try {
      await env.QUEUE.send(message, TEXT);
    } catch (error) {
      const refusal = await send_again(env, message, String(error));
      if (refusal !== undefined) return respond(refusal);
    }
    return respond(reply);
  },
};

/** A large body that is text, of a source whose rule needs no more of it than a hash; else undefined. */
async function receive_large(head, body) {
  const wanted = guarded(hashing, head);
  if (wanted === undefined) return undefined;
  let text;
  try {
    text = decoder.decode(body);
  } catch {
    return undefined;
  }
  // A queue cuts a text at the first of these.
  if (text.includes("\0")) return undefined;
  const view = new DataView(wanted.buffer, wanted.byteOffset);
  const [keys, before, first] = [view.getUint32(0, true), view.getUint32(4, true), 8];
  const after = wanted.subarray(first + keys * before);
  const size = before + body.length + after.length;
  const content = size <= room.length ? room.subarray(0, size) : new Uint8Array(size);
  content.set(body, before);
  content.set(after, before + body.length);
  // The platform takes its copy before it gives back a promise, so that the room is free again then.
  const hashes = Array.from({ length: keys }, (_, key) => {
    content.set(wanted.subarray(first + key * before, first + (key + 1) * before));
    return crypto.subtle.digest("SHA-256", content);
  });
  const digests = new Uint8Array(keys * 32);
  for (const [key, hash] of hashes.entries()) digests.set(new Uint8Array(await hash), key * 32);
  const received = halves(guarded(receive_hashed, head, digests, body.length));
  return received && [received[0], received[1] + text];
}

/** The way of every request: awaited, so that a Worker that broke is known to have. */
async function answer(request, env, context) {
  if (state.criticalError) new Worker(context, env);
  try {
    return await Worker.prototype.fetch.call({ env, ctx: context }, request);
  } catch (error) {
    throw noted(error);
  }
}

function guarded(call, ...values) {
  try {
    return call(...values);
  } catch (error) {
    throw noted(error);
  }
}

/** WebAssembly that trapped is made anew for the next request. */
function noted(error) {
  if (error instanceof WebAssembly.RuntimeError) state.criticalError = true;
  return error;
}

/** The answer stands on the first line, the message behind it. */
function halves(received) {
  if (received === undefined) return undefined;
  const end = received.indexOf("\n");
  return [received.slice(0, end), received.slice(end + 1)];
}

/** An answer is a JSON list of status, headers and body. */
function respond(answer) {
  const [status, headers, body] = JSON.parse(answer);
  return new Response(body === "" ? null : body, { status, headers });
}

// The Worker's entry: what arrives at a source whose configuration is in memory is decided by Rust in one call between
// two awaits; everything else is answered by Rust alone, which awaits inside.
//
// An await inside Rust costs two closures and a turn of its task queue: more than verifying and writing the message. This
// file decides nothing but asks the platform what Rust leaves to it, whether a signature is good: where Rust says nothing,
// the signature is not good, or anything here fails before the event is in the queue, the whole request is answered by the
// way that handles every case.
import { __wbg_reset_state, __worker_init_state, fetch as answer_in_rust } from "../build/index.js";
import { receive, receive_unread, send_again } from "../build/index.js";
import { head as head_of } from "./host.js";
import { charge, free, read_watched } from "./small_bodies.js";

const state = __worker_init_state();
Error.stackTraceLimit = 100;
// What nothing here awaits, such as a task that goes on after an answer.
addEventListener("error", (event) => noted(event.error));

// A body that fits into a message; what is larger goes to R2 first.
const MAX_BYTES = 127_000;
// From here on a body is only looked at by the platform, where that is enough: `SMALL_BODY_BYTES` of verify/platform.rs. Its
// message is one of bytes: to make and to write a text costs as much as hashing it.
const LARGE_BYTES = 8_000;
// Where a body is put together with what is signed round it: fresh memory each time costs as much as hashing it.
const room = new Uint8Array(MAX_BYTES + 4_096);
const encoder = new TextEncoder();
const TEXT = { contentType: "text" };
const BYTES = { contentType: "bytes" };

// How the Web Cryptography API imports the key of each `PlatformAlgorithm`, and verifies with it.
const ALGORITHMS = {
  "hmac-sha1": { name: "HMAC", hash: "SHA-1" },
  "hmac-sha256": { name: "HMAC", hash: "SHA-256" },
  "hmac-sha512": { name: "HMAC", hash: "SHA-512" },
  ed25519: { name: "Ed25519" },
  p256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
};
// Keys that were imported, by algorithm and key.
const KEYS = new Map();
const MAX_KEYS = 1_000;
// After how many seconds a provider is to send again, if there is no room for its body.
const RETRY_AFTER_S = "10";
// Status and headers of answers, by the line that says them: to make them is most of the work of making an answer.
const ANSWERS = new Map();
const MAX_ANSWERS = 100;

export default {
  async fetch(request, env, context) {
    const length = request.method === "POST" ? Number(request.headers.get("content-length")) : 0;
    if (!(length > 0 && length <= MAX_BYTES) || state.criticalError) return answer(request, env, context);
    const charged = charge(length);
    if (charged === undefined) return refuse(503, "too_busy");
    try {
      let body;
      try {
        // Cheaper than to ask for the bytes, which asks for this.
        body = charged === 0 ? new Uint8Array(await request.arrayBuffer()) : await read_watched(request);
      } catch {
        return await answer(request, env, context);
      }
      if (body === undefined) return refuse(408, "body_too_slow");
      const head = head_of(request);
      const unread = body.length > LARGE_BYTES ? parts(guarded(receive_unread, head, body.length)) : undefined;
      const taken = unread ?? parts(guarded(receive, head, body));
      if (taken === undefined || (taken.check !== "" && !(await verifies(taken.check, body)))) {
        return await answer(new Request(request, { body }), env, context);
      }
      // The queue takes the memory of bytes, so that each try makes its own.
      const send = () =>
        unread === undefined ? env.QUEUE.send(taken.message, TEXT) : env.QUEUE.send(behind(taken.message, body), BYTES);
      try {
        await send();
      } catch (error) {
        const refusal = await send_again(send, String(error));
        if (refusal !== undefined) return respond(...refusal.split("\n"));
      }
      return respond(taken.head, taken.body);
    } finally {
      free(charged, length);
    }
  },
};

/** Refuses a request before its source is known, as `respond.rs` does. */
function refuse(status, error) {
  const headers = { "content-type": "application/json", "x-content-type-options": "nosniff" };
  if (status === 503) headers["retry-after"] = RETRY_AFTER_S;
  return new Response(JSON.stringify({ error }), { status, headers });
}

/** Whether one of the signatures is that of one of the keys. Where the platform takes neither, Rust says what is wrong. */
async function verifies(check, body) {
  try {
    const [algorithm, keys, signatures, round] = check.split("\t");
    const imported = [];
    for (const key of keys.split(",")) imported.push(KEYS.get(algorithm + key) ?? (await imports(algorithm, key)));
    const content = round === "" ? body : joined(body, ...JSON.parse(round));
    // All are asked for before one is awaited: the platform has read the content by then, and the room is free.
    const asked = [];
    for (const key of imported) {
      for (const signature of signatures.split(",")) {
        asked.push(crypto.subtle.verify(ALGORITHMS[algorithm], key, Uint8Array.fromBase64(signature), content));
      }
    }
    for (const verified of asked) if (await verified) return true;
    return false;
  } catch {
    return false;
  }
}

async function imports(algorithm, key) {
  const imported = await crypto.subtle.importKey("raw", Uint8Array.fromBase64(key), ALGORITHMS[algorithm], false, ["verify"]);
  if (KEYS.size >= MAX_KEYS) KEYS.clear();
  KEYS.set(algorithm + key, imported);
  return imported;
}

function joined(body, text_before, text_after) {
  const [before, after] = [encoder.encode(text_before), encoder.encode(text_after)];
  const size = before.length + body.length + after.length;
  const content = size <= room.length ? room.subarray(0, size) : new Uint8Array(size);
  content.set(before);
  content.set(body, before.length);
  content.set(after, before.length + body.length);
  return content;
}

function behind(text, body) {
  const line = encoder.encode(text);
  const bytes = new Uint8Array(line.length + body.length);
  bytes.set(line);
  bytes.set(body, line.length);
  return bytes;
}

/**
 * The way of every request: awaited, so that a Worker that broke is known to have. It goes on if the client goes away,
 * so that what it holds is freed.
 */
async function answer(request, env, context) {
  if (state.criticalError) start_again();
  try {
    const answered = Promise.resolve(answer_in_rust(request, env, context));
    context.waitUntil(answered.catch(() => {}));
    return await answered;
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

/** WebAssembly that trapped is started again for the next request. */
function noted(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    console.error("WebAssembly trapped", error);
    state.criticalError = true;
  }
  return error;
}

function start_again() {
  console.log("WebAssembly is started again");
  __wbg_reset_state();
  state.criticalError = false;
  state.instanceId += 1;
}

/** What Rust gives back: two lines of an answer, one of what is to be checked before it is given, and the message. */
function parts(received) {
  if (received === undefined) return undefined;
  const body = received.indexOf("\n") + 1;
  const check = received.indexOf("\n", body) + 1;
  const message = received.indexOf("\n", check) + 1;
  return {
    head: received.slice(0, body - 1),
    body: received.slice(body, check - 1),
    check: received.slice(check, message - 1),
    message: received.slice(message),
  };
}

function respond(head, body) {
  let init = ANSWERS.get(head);
  if (init === undefined) {
    const [status, headers] = JSON.parse(head);
    init = { status, headers: new Headers(headers) };
    if (ANSWERS.size >= MAX_ANSWERS) ANSWERS.clear();
    ANSWERS.set(head, init);
  }
  return new Response(JSON.parse(body) || null, init);
}

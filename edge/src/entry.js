// The Worker's entry. A request takes one of two paths:
//
// - The fast path, for a POST to a source whose configuration is in memory:
//
//     read the body  →  Rust decides in one call  →  verify the signature, if Rust leaves that  →  send  →  answer
//
// - The slow path, for every other request and every other outcome: Rust answers alone and awaits inside (`ingest.rs`). The
//   fast path falls back to it if Rust does not accept the request, if the signature is not good, or if anything fails
//   before the event is in the queue.
//
// The fast path exists for speed alone. An await inside Rust costs two closures and a turn of its task queue: more than
// verifying and writing the message. This file decides nothing. `fast_path.rs` says which requests it accepts, and
// `fast_path/wire.rs` describes the texts that it returns.
import { __wbg_reset_state, __worker_init_state, fetch as answer_in_rust } from "../build/index.js";
import { receive, receive_by_length, send_again } from "../build/index.js";
import { head as head_of } from "./host.js";
import { charge, free, read_watched } from "./small_bodies.js";

const state = __worker_init_state();
Error.stackTraceLimit = 100;
// Errors that no code here awaits, such as that of a task which continues after an answer.
addEventListener("error", (event) => mark_broken(event.error));

// The largest body that fits into a message (`MAX_MESSAGE_BYTES` of envelope.rs). A larger one goes to R2 first.
const MAX_BYTES = 127_000;
// Above this size the platform alone reads a body, if that is enough (`SMALL_BODY_BYTES` of verify/platform.rs). The message
// is then one of bytes: making and writing a text costs as much as hashing it.
const LARGE_BYTES = 8_000;
// Memory in which a body is joined with the signed text around it: new memory each time costs as much as hashing it.
const scratch = new Uint8Array(MAX_BYTES + 4_096);
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
// Imported keys, by algorithm and key.
const KEYS = new Map();
const MAX_KEYS = 1_000;
// Seconds after which a provider should send again, if there is no room for its body.
const RETRY_AFTER_S = "10";
// Status and headers of answers, by the line that describes them: making them is most of the work of making an answer.
const ANSWERS = new Map();
const MAX_ANSWERS = 100;

export default {
  async fetch(request, env, context) {
    const length = request.method === "POST" ? Number(request.headers.get("content-length")) : 0;
    if (!(length > 0 && length <= MAX_BYTES) || state.criticalError) return slow_path(request, env, context);
    const charged = charge(length);
    if (charged === undefined) return refuse(503, "too_busy");
    try {
      let body;
      try {
        // Cheaper than `bytes`, which calls `arrayBuffer`.
        body = charged === 0 ? new Uint8Array(await request.arrayBuffer()) : await read_watched(request);
      } catch {
        return await slow_path(request, env, context);
      }
      if (body === undefined) return refuse(408, "body_too_slow");
      const head = head_of(request);
      const by_length = body.length > LARGE_BYTES ? parse(guarded(receive_by_length, head, body.length)) : undefined;
      const accepted = by_length ?? parse(guarded(receive, head, body));
      if (accepted === undefined || (accepted.check !== "" && !(await verifies(accepted.check, body)))) {
        return await slow_path(new Request(request, { body }), env, context);
      }
      // The queue takes over the memory of bytes, so each attempt makes its own.
      const send = () =>
        by_length === undefined
          ? env.QUEUE.send(accepted.message, TEXT)
          : env.QUEUE.send(prepend(accepted.message, body), BYTES);
      try {
        await send();
      } catch (error) {
        const refusal = await send_again(send, String(error));
        if (refusal !== undefined) return respond(...refusal.split("\n"));
      }
      return respond(accepted.head, accepted.body);
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

/** Whether one of the keys has made one of the signatures. False also if the platform accepts neither: Rust then says why. */
async function verifies(check, body) {
  try {
    const [algorithm, keys, signatures, affixes] = check.split("\t");
    const imported = [];
    for (const key of keys.split(",")) imported.push(KEYS.get(algorithm + key) ?? (await imports(algorithm, key)));
    const content = affixes === "" ? body : concat(body, ...JSON.parse(affixes));
    // All calls are made before one is awaited: the platform has read the content by then, and the scratch memory is free.
    const pending = [];
    for (const key of imported) {
      for (const signature of signatures.split(",")) {
        pending.push(crypto.subtle.verify(ALGORITHMS[algorithm], key, Uint8Array.fromBase64(signature), content));
      }
    }
    for (const verified of pending) if (await verified) return true;
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

function concat(body, text_before, text_after) {
  const [before, after] = [encoder.encode(text_before), encoder.encode(text_after)];
  const size = before.length + body.length + after.length;
  const content = size <= scratch.length ? scratch.subarray(0, size) : new Uint8Array(size);
  content.set(before);
  content.set(body, before.length);
  content.set(after, before.length + body.length);
  return content;
}

function prepend(text, body) {
  const line = encoder.encode(text);
  const bytes = new Uint8Array(line.length + body.length);
  bytes.set(line);
  bytes.set(body, line.length);
  return bytes;
}

/**
 * The slow path. It is awaited, so that a trap in WebAssembly is noticed. It continues if the client disconnects, so that
 * the memory it has charged is freed.
 */
async function slow_path(request, env, context) {
  if (state.criticalError) reset();
  try {
    const answered = Promise.resolve(answer_in_rust(request, env, context));
    context.waitUntil(answered.catch(() => {}));
    return await answered;
  } catch (error) {
    throw mark_broken(error);
  }
}

function guarded(call, ...values) {
  try {
    return call(...values);
  } catch (error) {
    throw mark_broken(error);
  }
}

/** After a trap the next request makes a new instance of the WebAssembly module. */
function mark_broken(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    console.error("WebAssembly trapped", error);
    state.criticalError = true;
  }
  return error;
}

function reset() {
  console.log("the WebAssembly module is instantiated again");
  __wbg_reset_state();
  state.criticalError = false;
  state.instanceId += 1;
}

/** Takes an acceptance of Rust apart; undefined for a request of the slow path. */
function parse(acceptance) {
  if (acceptance === undefined) return undefined;
  const body = acceptance.indexOf("\n") + 1;
  const check = acceptance.indexOf("\n", body) + 1;
  const message = acceptance.indexOf("\n", check) + 1;
  return {
    head: acceptance.slice(0, body - 1),
    body: acceptance.slice(body, check - 1),
    check: acceptance.slice(check, message - 1),
    message: acceptance.slice(message),
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

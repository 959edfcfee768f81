// The Worker's entry: what arrives at a source whose configuration is in memory is decided by Rust in one call between
// two awaits; everything else goes through the Worker that worker-build makes.
//
// An await inside Rust costs two closures and a turn of its task queue, and worker-build's class a chain of proxies:
// together more than verifying and writing the message. This file decides nothing: where Rust says nothing, or anything
// here fails before the event is in the queue, the whole request is answered by the way that handles every case.
import Worker from "../build/index.js";

const { receive, send_again } = Worker.prototype;
const state = globalThis.__worker_init_state;

// A body that fits into a message; what is larger goes to R2 first.
const MAX_BYTES = 127_000;
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
    const received = guarded(receive, head, body);
    if (received === undefined) return answer(new Request(request, { body }), env, context);
    const [reply, message] = halves(received);
    try {
      await env.QUEUE.send(message, TEXT);
    } catch (error) {
      const refusal = await send_again(env, message, String(error));
      if (refusal !== undefined) return respond(refusal);
    }
    return respond(reply);
  },
};

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
  const end = received.indexOf("\n");
  return [received.slice(0, end), received.slice(end + 1)];
}

/** An answer is a JSON list of status, headers and body. */
function respond(answer) {
  const [status, headers, body] = JSON.parse(answer);
  return new Response(body === "" ? null : body, { status, headers });
}

// A destination for Tidegate: verifies each delivery, stores it once, answers, and does the work afterwards.
// ../../README.md says how to run it.

import { randomUUID } from "node:crypto";
import { access, link, mkdir, open, readdir, readFile, unlink } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { Webhook } from "standardwebhooks";

/** The largest body that is accepted, in bytes. Without a limit, anyone could fill the memory. */
const LARGEST_BODY = 10 * 1024 * 1024;
/** How long work that failed waits before it is tried again, in milliseconds. */
const RETRY_AFTER_MS = 10_000;

const { SIGNING_SECRET, PORT = "9000", INBOX = "inbox" } = process.env;
if (!SIGNING_SECRET) {
  console.error("set SIGNING_SECRET to the signing secret of the destination: whsec_…");
  process.exit(64);
}
const webhook = new Webhook(SIGNING_SECRET);

// Tidegate delivers at least once: after a crash or a lost answer the same event comes again, with the same webhook-id.
// The ids are kept in files and not in memory, because a restart of this program must not forget them. A file for each
// event needs no database; with a database, use a table whose key is the webhook-id (../python/receiver.py does).
const EVENTS = join(INBOX, "events");
const DONE = join(INBOX, "done");

/** Stores the event unless it is stored already. When this returns, the event survives a crash of the machine. */
async function store(id, body) {
  const unfinished = join(INBOX, randomUUID());
  await write(unfinished, body);
  try {
    // Fails if the file exists, so that of two deliveries at the same time only one is new.
    await link(unfinished, join(EVENTS, id));
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    await unlink(unfinished);
    await sync(EVENTS);
  }
}

/** Writes a new file and waits until it is on the disk. */
async function write(file, content) {
  const handle = await open(file, "wx");
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Waits until the names in a folder are on the disk. */
async function sync(folder) {
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

let last = Promise.resolve();

/** Works on events one after the other. */
function enqueue(id) {
  last = last.then(() => finish(id)).catch((error) => {
    console.error(`failed ${id}: ${error.message}; trying again in ${RETRY_AFTER_MS / 1000} s`);
    setTimeout(enqueue, RETRY_AFTER_MS, id);
  });
}

/** Works on an event unless that was done before. */
async function finish(id) {
  if (await exists(join(DONE, id))) return;
  await work(id, await readFile(join(EVENTS, id)));
  // A crash before this line repeats the work. If it must not be repeated, do it in the same transaction of a database
  // that marks the event as done.
  await write(join(DONE, id), "");
  await sync(DONE);
  console.log(`done ${id}`);
}

async function exists(file) {
  return access(file).then(() => true, () => false);
}

/** The work: put your own here. */
async function work(id, body) {
  // Parsed only here: until the signature was verified, the body could have been anyone's.
  const event = JSON.parse(body.toString("utf8"));
  console.log(`working on ${id}: ${event.type ?? "an event"}`);
}

/** Reads the body as bytes: the signature covers them, and parsing and writing them again would change them. */
async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > LARGEST_BODY) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

async function answer(request) {
  if (request.method !== "POST") return 405;
  const body = await read(request);
  if (body === undefined) return 413;
  try {
    webhook.verify(body, request.headers, { jsonParse: false });
  } catch (error) {
    console.error(`refused: ${error.message}`);
    return 401;
  }
  const id = request.headers["webhook-id"];
  // The id becomes the name of a file.
  if (!/^[A-Za-z0-9_-]{1,100}$/.test(id)) return 400;
  if (await store(id, body)) enqueue(id);
  // Answered before the work is done: Tidegate waits 15 seconds, and work can take longer. What was received before is
  // answered 2xx too, or it would come again and again.
  return 204;
}

await mkdir(EVENTS, { recursive: true });
await mkdir(DONE, { recursive: true });
// What was stored and not finished before the last stop.
for (const id of await readdir(EVENTS)) enqueue(id);

const server = createServer((request, response) => {
  answer(request)
    .catch((error) => {
      console.error(`not stored: ${error.message}`);
      return 500; // Tidegate delivers it again later.
    })
    .then((status) => {
      // The rest of a body that is too large is not read.
      if (status === 413) response.setHeader("connection", "close");
      response.writeHead(status).end();
    });
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));

// The demo destination of `cargo dev`: verifies every delivery with the official package and prints a line about it.
// usage: node receiver.mjs SECRET_FILE

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const [secretFile] = process.argv.slice(2);

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts).toString("utf8");
    const { status, line } = receive(request.headers, body);
    console.log(`${line} (webhook-id ${request.headers["webhook-id"]}, ${Buffer.byteLength(body)} bytes)`);
    response.writeHead(status).end();
  });
});

function receive(headers, body) {
  try {
    // Read each time: the destination has to be created with this server's address before the secret is known.
    const webhook = new Webhook(readFileSync(secretFile, "utf8").trim());
    const event = webhook.verify(body, headers);
    return { status: 200, line: `delivery arrived, signature verified by standardwebhooks: ${event?.type ?? "event"}` };
  } catch (error) {
    return { status: 401, line: `delivery refused: ${error.message}` };
  }
}

server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));

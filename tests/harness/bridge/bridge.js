// Cloudflare's local tools have no pull consumer. This Worker replaces one: it forwards every batch to the local queue.
// If that fails, the batch fails, and miniflare delivers it again.
export default {
  async queue(batch, env) {
    const messages = batch.messages.map(({ body }) =>
      typeof body === "string"
        ? { body, content_type: "text" }
        : { body: Buffer.from(body).toString("base64"), content_type: "bytes" },
    );
    const headers = { "content-type": "application/json" };
    const url = `${env.LOCAL_QUEUE_URL}/messages/batch`;
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ messages }) });
    if (!response.ok) throw new Error(`the local queue answered ${response.status}: ${await response.text()}`);
  },
};

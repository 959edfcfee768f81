// Reads the ids and the types of events with the providers' own SDKs.
//
// Standard input is a JSON list of jobs, standard output one of answers:
//   { "provider", "secret", "now_s", "method", "url", "headers", "body", "keys" } -> { "read": { "id", "type" } }
// An id or type is the list of the fields from which it is built, or null if the SDK provides none. "read" is null if
// the SDK only verifies; { "why" } is the reason if it refused the request.
//
// It needs the packages of package.json in the current folder. clock.mjs and sns.mjs have to be loaded first.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const require = createRequire(`${process.cwd()}/`);
const asRequest = (job) => new Request(job.url, { method: job.method, headers: job.headers, body: job.body });

// Several events in one request: the id is that of the first, with the number of the others.
const ofList = (ids) => (ids.length > 1 ? `${ids[0]}+${ids.length - 1}` : ids[0]);

const providers = {
  stripe: async () => {
    const { default: Stripe } = await import("stripe");
    const stripe = new Stripe("sk_test");
    return async (job) => {
      // Events of the second version need a different function.
      const isThin = JSON.parse(job.body).object === "v2.core.event";
      const parse = isThin ? stripe.parseEventNotification.bind(stripe) : stripe.webhooks.constructEvent.bind(stripe.webhooks);
      const event = parse(job.body, job.headers["stripe-signature"], job.secret);
      return { id: [event.id], type: [event.type] };
    };
  },
  github: async () => {
    const { Webhooks, createWebMiddleware } = await import("@octokit/webhooks");
    return async (job) => {
      const webhooks = new Webhooks({ secret: job.secret, log: { debug() {}, info() {}, warn() {}, error() {} } });
      let event;
      webhooks.onAny((received) => {
        event = received;
      });
      const answer = await createWebMiddleware(webhooks, { path: new URL(job.url).pathname })(asRequest(job));
      if (!answer.ok) throw new Error(await answer.text());
      return { id: [event.id], type: [event.name, event.payload.action].filter((part) => part !== undefined) };
    };
  },
  shopify: async () => {
    await import("@shopify/shopify-api/adapters/web-api");
    const { shopifyApi, ApiVersion } = await import("@shopify/shopify-api");
    const version = Object.values(ApiVersion).filter((name) => /^\d/.test(name)).at(-1);
    return async (job) => {
      const shopify = shopifyApi({
        apiKey: "key", apiSecretKey: job.secret, scopes: [], hostName: "in.example", apiVersion: version,
        isEmbeddedApp: true, logger: { log: () => {} },
      });
      const read = await shopify.webhooks.validate({ rawBody: job.body, rawRequest: asRequest(job) });
      if (!read.valid) throw new Error(read.reason);
      // The SDK writes the topic orders/create as ORDERS_CREATE.
      return { id: [read.webhookId], type: [read.topic.toLowerCase().replace("_", "/")] };
    };
  },
  // The message's id is in a header that its SDKs do not pass on. An id in the body, if there is one, is a different
  // id.
  svix: async () => {
    const { Webhook } = require("svix");
    return async (job) => ({ id: null, type: [new Webhook(job.secret).verify(job.body, job.headers).type] });
  },
  "standard-webhooks": async () => {
    const { Webhook } = require("standardwebhooks");
    return async (job) => ({ id: null, type: [new Webhook(job.secret).verify(job.body, job.headers).type] });
  },
  openai: async () => {
    const { default: OpenAI } = await import("openai");
    const { webhooks } = new OpenAI({ apiKey: "key" });
    return async (job) => ({ id: null, type: [(await webhooks.unwrap(job.body, job.headers, job.secret)).type] });
  },
  anthropic: async () => {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const { webhooks } = new Anthropic({ apiKey: "key" }).beta;
    return async (job) => {
      const event = await webhooks.unwrap(job.body, { headers: job.headers, key: job.secret });
      return { id: null, type: [event.data.type] };
    };
  },
  resend: async () => {
    const { Resend } = await import("resend");
    const { webhooks } = new Resend("re_key");
    return async (job) => {
      const [id, timestamp, signature] = ["id", "timestamp", "signature"].map((name) => job.headers[`svix-${name}`]);
      const headers = { id, timestamp, signature };
      return { id: null, type: [webhooks.verify({ payload: job.body, headers, webhookSecret: job.secret }).type] };
    };
  },
  clerk: async () => {
    const { verifyWebhook } = await import("@clerk/backend/webhooks");
    return async (job) => {
      const event = await verifyWebhook(asRequest(job), { signingSecret: job.secret });
      return { id: null, type: [event.type] };
    };
  },
  polar: async () => {
    const { validateEvent } = await import("@polar-sh/sdk/webhooks");
    return async (job) => ({ id: null, type: [validateEvent(job.body, job.headers, job.secret).type] });
  },
  slack: async () => {
    const { App, AwsLambdaReceiver, LogLevel } = require("@slack/bolt");
    return async (job) => {
      const logger = { debug() {}, info() {}, warn() {}, error() {}, setLevel() {}, getLevel: () => LogLevel.ERROR, setName() {} };
      const receiver = new AwsLambdaReceiver({ signingSecret: job.secret, logger });
      const authorize = async () => ({ botToken: "xoxb", botId: "B1", botUserId: "U1" });
      const app = new App({ receiver, authorize, logger });
      let read;
      app.event(/.*/, async ({ event, body }) => {
        read = { id: [body.event_id], type: [event.type] };
      });
      app.command(/.*/, async ({ command, ack }) => {
        await ack();
        read = { id: null, type: [command.command] };
      });
      app.action({ type: "block_actions" }, async ({ body, ack }) => {
        await ack();
        read = { id: null, type: [body.type] };
      });
      const answer = await (await receiver.start())({ headers: job.headers, body: job.body, path: "/" }, {}, () => {});
      if (answer.statusCode !== 200) throw new Error(`it answered ${answer.statusCode}`);
      return read;
    };
  },
  square: async () => {
    const { WebhooksHelper } = require("./node_modules/square/wrapper/WebhooksHelper.js");
    const events = require("./node_modules/square/serialization/types/PaymentUpdatedEvent.js");
    return async (job) => {
      const good = await WebhooksHelper.verifySignature({
        requestBody: job.body, signatureHeader: job.headers["x-square-hmacsha256-signature"],
        signatureKey: job.secret, notificationUrl: job.url,
      });
      if (!good) throw new Error("it refused the signature");
      const event = events.PaymentUpdatedEvent.parseOrThrow(JSON.parse(job.body), { skipValidation: true });
      return { id: [event.eventId], type: [event.type] };
    };
  },
  paddle: async () => {
    const { Paddle } = await import("@paddle/paddle-node-sdk");
    const { webhooks } = new Paddle("key");
    return async (job) => {
      const event = await webhooks.unmarshal(job.body, job.secret, job.headers["paddle-signature"]);
      return { id: [event.eventId], type: [event.eventType] };
    };
  },
  adyen: async () => {
    const { default: NotificationRequest } = require("@adyen/api-library/lib/src/notification/notificationRequest.js");
    return async (job) => {
      const [item] = new NotificationRequest(JSON.parse(job.body)).notificationItems;
      return { id: [item.pspReference, item.eventCode, item.success], type: [item.eventCode] };
    };
  },
  "adyen-platform": async () => {
    const file = "@adyen/api-library/lib/src/typings/transferWebhooks/transferWebhooksHandler.js";
    const { TransferWebhooksHandler } = require(file);
    return async (job) => {
      const event = new TransferWebhooksHandler(job.body).getGenericWebhook();
      return { id: [event.type, event.data.id], type: [event.type] };
    };
  },
  linear: async () => {
    const { LinearWebhookClient } = await import("@linear/sdk/webhooks");
    return async (job) => {
      const handler = new LinearWebhookClient(job.secret).createHandler();
      let event;
      handler.on("*", (received) => {
        event = received;
      });
      const answer = await handler(asRequest(job));
      if (!answer.ok) throw new Error(await answer.text());
      const { webhookId, type, action, data, createdAt } = event;
      return { id: [webhookId, type, action, data?.id ?? "", createdAt], type: [type, action] };
    };
  },
  elevenlabs: async () => {
    const { WebhooksClient } = require("@elevenlabs/elevenlabs-js/wrapper/webhooks.js");
    const webhooks = new WebhooksClient({});
    return async (job) => {
      const event = await webhooks.constructEvent(job.body, job.headers["elevenlabs-signature"], job.secret);
      const of = event.data?.conversation_id ?? event.data?.request_id;
      const parts = of === undefined ? [] : [of, event.event_timestamp ?? ""];
      return { id: [event.type, ...parts], type: [event.type] };
    };
  },
  mux: async () => {
    const { default: Mux } = await import("@mux/mux-node");
    const { webhooks } = new Mux({ tokenId: "id", tokenSecret: "secret" });
    return async (job) => {
      const event = await webhooks.unwrap(job.body, job.headers, job.secret);
      return { id: [event.id], type: [event.type] };
    };
  },
  line: async () => {
    const { middleware } = await import("@line/bot-sdk");
    return async (job) => {
      const request = { headers: job.headers, rawBody: job.body };
      await new Promise((resolve, reject) => {
        middleware({ channelSecret: job.secret })(request, {}, (error) => (error ? reject(error) : resolve()));
      });
      const { events } = request.body;
      return { id: [ofList(events.map((event) => event.webhookEventId))], type: [events[0].type] };
    };
  },
  "coinbase-commerce": async () => {
    const { Webhook } = require("coinbase-commerce-node");
    return async (job) => {
      const event = Webhook.verifyEventBody(job.body, job.headers["x-cc-webhook-signature"], job.secret);
      return { id: [event.id], type: [event.type] };
    };
  },
  workos: async () => {
    const { WorkOS } = await import("@workos-inc/node");
    const { webhooks } = new WorkOS("key");
    return async (job) => {
      const event = await webhooks.constructEvent({
        payload: JSON.parse(job.body), sigHeader: job.headers["workos-signature"], secret: job.secret,
      });
      return { id: [event.id], type: [event.event] };
    };
  },
  "aws-sns": async () => sns,
  "aws-sns-sha1": async () => sns,
  livekit: async () => {
    const { WebhookReceiver } = await import("livekit-server-sdk");
    return async (job) => {
      const event = await new WebhookReceiver("devkey", job.secret).receive(job.body, job.headers.authorization);
      return { id: [event.id], type: [event.event] };
    };
  },
  telnyx: async () => {
    const { default: Telnyx } = await import("telnyx");
    const { webhooks } = new Telnyx({ apiKey: "key" });
    return async (job) => {
      const { data } = await webhooks.unwrap(job.body, { headers: job.headers, key: job.secret });
      return { id: [data.id], type: [data.event_type] };
    };
  },
  gocardless: async () => {
    const { parse } = require("gocardless-nodejs/webhooks");
    return async (job) => {
      const events = parse(job.body, job.secret, job.headers["webhook-signature"]);
      const { resource_type, action } = events[0];
      return { id: [ofList(events.map((event) => event.id))], type: [resource_type, action] };
    };
  },
};

async function sns(job) {
  const message = await globalThis.validatedBySns(job);
  return { id: [message.MessageId], type: [message.Subject ?? message.Type] };
}

const loaded = new Map();

async function answer(job) {
  globalThis.standStillAt(job.now_s);
  if (!(job.provider in providers)) return { read: null };
  // An SDK that fails to load fails the test.
  if (!loaded.has(job.provider)) loaded.set(job.provider, await providers[job.provider]());
  try {
    const { id, type } = await loaded.get(job.provider)(job);
    return { read: { id: id?.map(String) ?? null, type: type?.map(String) ?? null } };
  } catch (error) {
    return { why: String(error?.message ?? error) };
  }
}

const answers = [];
for (const job of JSON.parse(await text(process.stdin))) answers.push(await answer(job));
process.stdout.write(JSON.stringify(answers));

// Signs and verifies webhooks with the providers' own SDKs.
//
// Standard input is a JSON list of jobs, standard output one of answers:
//   { "do": "sign", "provider", "secret", "now_s", "method", "url", "headers", "body" } -> { "headers", "body" }
//   { "do": "verify", the same, "keys": { "<id or URL>": "<PEM>" } } -> { "accepted", "why" }
//
// It needs the packages of package.json in the current folder. If an SDK is slow to load, only the module that verifies
// is loaded. clock.mjs and sns.mjs have to be loaded first.

import { createSecretKey } from "node:crypto";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const require = createRequire(`${process.cwd()}/`);

const form = (body) => Object.fromEntries(new URLSearchParams(body));
const asRequest = (job) => new Request(job.url, { method: job.method, headers: job.headers, body: job.body });
const seconds = (job) => new Date(job.now_s * 1000);

async function adyenItems(job) {
  const { default: HmacValidator } = require("@adyen/api-library/lib/src/utils/hmacValidator.js");
  const message = JSON.parse(job.body);
  const items = message.notificationItems.map((item) => item.NotificationRequestItem);
  return { validator: new HmacValidator(), message, items };
}

function hubspot(version) {
  const { Signature } = require("@hubspot/api-client/lib/src/utils/signature.js");
  const options = (job) => ({
    clientSecret: job.secret,
    requestBody: job.body,
    url: job.url,
    timestamp: Number(job.headers["x-hubspot-request-timestamp"] ?? 0),
  });
  const header = version === "v3" ? "x-hubspot-signature-v3" : "x-hubspot-signature";
  return {
    sign: async (job) => ({ [header]: Signature.getSignature(job.method, version, options(job)) }),
    verify: async (job) =>
      Signature.isValid({
        ...options(job), method: job.method, signatureVersion: version, signature: job.headers[header],
      }),
  };
}

async function sns(job) {
  await globalThis.validatedBySns(job);
  return true;
}

// A verifier that throws if it refuses.
const throwing = (verify) => async (job) => {
  await verify(job);
  return true;
};

const providers = {
  stripe: async () => {
    const { default: Stripe } = await import("stripe");
    const { webhooks } = new Stripe("sk_test");
    return {
      sign: async (job) => ({
        "stripe-signature": webhooks.generateTestHeaderString({
          payload: job.body, secret: job.secret, timestamp: job.now_s,
        }),
      }),
      verify: throwing((job) => webhooks.constructEvent(job.body, job.headers["stripe-signature"], job.secret)),
    };
  },
  github: async () => {
    const { sign, verify } = await import("@octokit/webhooks-methods");
    return {
      sign: async (job) => ({ "x-hub-signature-256": await sign(job.secret, job.body) }),
      verify: async (job) => verify(job.secret, job.body, job.headers["x-hub-signature-256"]),
    };
  },
  shopify: async () => {
    await import("@shopify/shopify-api/adapters/web-api");
    const { shopifyApi, ApiVersion } = await import("@shopify/shopify-api");
    const version = Object.values(ApiVersion).filter((name) => /^\d/.test(name)).at(-1);
    return {
      verify: async (job) => {
        const shopify = shopifyApi({
          apiKey: "key", apiSecretKey: job.secret, scopes: [], hostName: "in.example", apiVersion: version,
          isEmbeddedApp: true, logger: { log: () => {} },
        });
        return (await shopify.webhooks.validate({ rawBody: job.body, rawRequest: asRequest(job) })).valid;
      },
    };
  },
  svix: async () => {
    const { Webhook } = require("svix");
    return {
      sign: async (job) => ({
        "svix-signature": new Webhook(job.secret).sign(job.headers["svix-id"], seconds(job), job.body),
      }),
      verify: throwing((job) => new Webhook(job.secret).verify(job.body, job.headers)),
    };
  },
  "standard-webhooks": async () => {
    const { Webhook } = require("standardwebhooks");
    return {
      sign: async (job) => ({
        "webhook-signature": new Webhook(job.secret).sign(job.headers["webhook-id"], seconds(job), job.body),
      }),
      verify: throwing((job) => new Webhook(job.secret).verify(job.body, job.headers)),
    };
  },
  replicate: async () => {
    const { validateWebhook } = require("replicate");
    return { verify: async (job) => validateWebhook({ headers: job.headers, body: job.body }, job.secret) };
  },
  openai: async () => {
    const { default: OpenAI } = await import("openai");
    const { webhooks } = new OpenAI({ apiKey: "key" });
    return { verify: throwing((job) => webhooks.unwrap(job.body, job.headers, job.secret)) };
  },
  anthropic: async () => {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const { webhooks } = new Anthropic({ apiKey: "key" }).beta;
    return { verify: throwing((job) => webhooks.unwrap(job.body, { headers: job.headers, key: job.secret })) };
  },
  resend: async () => {
    const { Resend } = await import("resend");
    const { webhooks } = new Resend("re_key");
    const headers = (job) => ({
      id: job.headers["svix-id"], timestamp: job.headers["svix-timestamp"], signature: job.headers["svix-signature"],
    });
    return {
      verify: throwing((job) =>
        webhooks.verify({ payload: job.body, headers: headers(job), webhookSecret: job.secret })),
    };
  },
  clerk: async () => {
    const { verifyWebhook } = await import("@clerk/backend/webhooks");
    return { verify: throwing((job) => verifyWebhook(asRequest(job), { signingSecret: job.secret })) };
  },
  polar: async () => {
    const { validateEvent } = await import("@polar-sh/sdk/webhooks");
    const { SDKValidationError } = await import("@polar-sh/sdk/models/errors/sdkvalidationerror.js");
    return {
      verify: async (job) => {
        try {
          validateEvent(job.body, job.headers, job.secret);
        } catch (error) {
          // The signature is valid: only then does the SDK check whether it knows this type of event.
          if (!(error instanceof SDKValidationError)) throw error;
        }
        return true;
      },
    };
  },
  twilio: async () => {
    const twilio = require("twilio/lib/webhooks/webhooks.js");
    const name = "x-twilio-signature";
    return {
      sign: async (job) => ({ [name]: twilio.getExpectedTwilioSignature(job.secret, job.url, form(job.body)) }),
      verify: async (job) => twilio.validateRequest(job.secret, job.headers[name], job.url, form(job.body)),
    };
  },
  sendgrid: async () => {
    const { EventWebhook } = require("@sendgrid/eventwebhook");
    const name = "x-twilio-email-event-webhook";
    return {
      verify: async (job) => {
        const webhook = new EventWebhook();
        const key = webhook.convertPublicKeyToECDSA(job.secret);
        const [signature, time] = [job.headers[`${name}-signature`], job.headers[`${name}-timestamp`]];
        return webhook.verifySignature(key, job.body, signature, time);
      },
    };
  },
  slack: async () => {
    const { isValidSlackRequest } = require("@slack/bolt/dist/receivers/verify-request.js");
    return {
      verify: async (job) => {
        const time = Number(job.headers["x-slack-request-timestamp"]);
        const headers = { ...job.headers, "x-slack-request-timestamp": time };
        return isValidSlackRequest({ signingSecret: job.secret, body: job.body, headers });
      },
    };
  },
  discord: async () => {
    const { verifyKey } = require("discord-interactions");
    return {
      verify: async (job) =>
        verifyKey(
          job.body, job.headers["x-signature-ed25519"], job.headers["x-signature-timestamp"], job.secret,
        ),
    };
  },
  square: async () => {
    const { WebhooksHelper } = require("./node_modules/square/wrapper/WebhooksHelper.js");
    return {
      verify: async (job) =>
        WebhooksHelper.verifySignature({
          requestBody: job.body, signatureHeader: job.headers["x-square-hmacsha256-signature"],
          signatureKey: job.secret, notificationUrl: job.url,
        }),
    };
  },
  paddle: async () => {
    const { Paddle } = await import("@paddle/paddle-node-sdk");
    const { webhooks } = new Paddle("key");
    return {
      verify: async (job) => webhooks.isSignatureValid(job.body, job.secret, job.headers["paddle-signature"]),
    };
  },
  adyen: async () => ({
    sign: async (job) => {
      const { validator, message, items } = await adyenItems(job);
      for (const item of items) {
        item.additionalData = { hmacSignature: validator.calculateHmac(item, job.secret) };
      }
      job.body = JSON.stringify(message);
      return {};
    },
    verify: async (job) => {
      const { validator, items } = await adyenItems(job);
      return items.every((item) => validator.validateHMAC(item, job.secret));
    },
  }),
  "adyen-platform": async () => {
    const { default: HmacValidator } = require("@adyen/api-library/lib/src/utils/hmacValidator.js");
    const validator = new HmacValidator();
    return {
      sign: async (job) => ({ hmacsignature: validator.calculateHmac(job.body, job.secret) }),
      verify: async (job) => validator.validateHMACSignature(job.secret, job.headers.hmacsignature, job.body),
    };
  },
  razorpay: async () => {
    const Razorpay = require("razorpay");
    return {
      verify: async (job) =>
        Razorpay.validateWebhookSignature(job.body, job.headers["x-razorpay-signature"], job.secret),
    };
  },
  linear: async () => {
    const { LinearWebhookClient } = await import("@linear/sdk/webhooks");
    return {
      verify: async (job) =>
        new LinearWebhookClient(job.secret).verify(Buffer.from(job.body), job.headers["linear-signature"]),
    };
  },
  hubspot: async () => hubspot("v3"),
  "hubspot-v1": async () => hubspot("v1"),
  "hubspot-v2": async () => hubspot("v2"),
  elevenlabs: async () => {
    const { WebhooksClient } = require("@elevenlabs/elevenlabs-js/wrapper/webhooks.js");
    const webhooks = new WebhooksClient({});
    return {
      verify: throwing((job) => webhooks.constructEvent(job.body, job.headers["elevenlabs-signature"], job.secret)),
    };
  },
  mux: async () => {
    const { default: Mux } = await import("@mux/mux-node");
    const { webhooks } = new Mux({ tokenId: "id", tokenSecret: "secret" });
    return { verify: throwing((job) => webhooks.unwrap(job.body, job.headers, job.secret)) };
  },
  line: async () => {
    const { validateSignature } = await import("@line/bot-sdk");
    return { verify: async (job) => validateSignature(job.body, job.secret, job.headers["x-line-signature"]) };
  },
  "coinbase-commerce": async () => {
    const { Webhook } = require("coinbase-commerce-node");
    const name = "x-cc-webhook-signature";
    return {
      sign: async (job) => ({ [name]: Webhook.computeSignature(job.body, job.secret) }),
      verify: throwing((job) => Webhook.verifyEventBody(job.body, job.headers[name], job.secret)),
    };
  },
  notion: async () => {
    const { signWebhookPayload, verifyWebhookSignature } = require("@notionhq/client");
    return {
      sign: async (job) => ({
        "x-notion-signature": await signWebhookPayload({ body: job.body, verificationToken: job.secret }),
      }),
      verify: async (job) =>
        verifyWebhookSignature({
          body: job.body, signature: job.headers["x-notion-signature"], verificationToken: job.secret,
        }),
    };
  },
  workos: async () => {
    const { WorkOS } = await import("@workos-inc/node");
    const { webhooks } = new WorkOS("key");
    return {
      sign: async (job) => {
        const tag = await webhooks.computeSignature(Date.now(), JSON.parse(job.body), job.secret);
        return { "workos-signature": `t=${Date.now()}, v1=${tag}` };
      },
      verify: async (job) =>
        webhooks.verifyHeader({
          payload: JSON.parse(job.body), sigHeader: job.headers["workos-signature"], secret: job.secret,
        }),
    };
  },
  "aws-sns": async () => ({ verify: sns }),
  "aws-sns-sha1": async () => ({ verify: sns }),
  messagebird: async () => {
    const { verify } = require("messagebird/lib/webhook-signature-jwt.js");
    return {
      verify: throwing((job) => {
        const key = createSecretKey(Buffer.from(job.secret));
        return verify(job.url, Buffer.from(job.body), job.headers["messagebird-signature-jwt"], key);
      }),
    };
  },
  vonage: async () => {
    const { verifySignature } = await import("@vonage/jwt");
    return { verify: async (job) => verifySignature(job.headers.authorization.replace("Bearer ", ""), job.secret) };
  },
  livekit: async () => {
    const { WebhookReceiver } = await import("livekit-server-sdk");
    return {
      verify: throwing((job) => new WebhookReceiver("devkey", job.secret).receive(job.body, job.headers.authorization)),
    };
  },
  telnyx: async () => {
    const { default: Telnyx } = await import("telnyx");
    const { webhooks } = new Telnyx({ apiKey: "key" });
    return { verify: throwing((job) => webhooks.unwrap(job.body, { headers: job.headers, key: job.secret })) };
  },
  gocardless: async () => {
    const { verifySignature } = require("gocardless-nodejs/webhooks");
    return {
      verify: throwing((job) => verifySignature(job.body, job.secret, job.headers["webhook-signature"])),
    };
  },
  retell: async () => {
    const { sign, verify } = require("retell-sdk/lib/webhook_auth.js");
    return {
      sign: async (job) => ({ "x-retell-signature": await sign(job.body, job.secret) }),
      verify: async (job) => verify(job.body, job.secret, job.headers["x-retell-signature"]),
    };
  },
  "gcp-pubsub": async () => {
    const { OAuth2Client } = require("google-auth-library");
    const issuers = ["accounts.google.com", "https://accounts.google.com"];
    return {
      verify: throwing((job) => {
        const token = job.headers.authorization.replace("Bearer ", "");
        return new OAuth2Client().verifySignedJwtWithCertsAsync(token, job.keys, job.url, issuers);
      }),
    };
  },
  webflow: async () => {
    const { Client } = require("./node_modules/webflow-api/wrapper/WebhooksClient.js");
    return {
      verify: async (job) =>
        new Client({}).verifySignature({ headers: job.headers, body: job.body, secret: job.secret }),
    };
  },
};

const loaded = new Map();

async function answer(job) {
  globalThis.standStillAt(job.now_s);
  // An SDK that fails to load fails the test. It is not a refusal.
  if (!loaded.has(job.provider)) loaded.set(job.provider, await providers[job.provider]());
  const sdk = loaded.get(job.provider);
  if (job.do === "sign") {
    const headers = await sdk.sign(job);
    return { headers: { ...job.headers, ...headers }, body: job.body };
  }
  try {
    return { accepted: Boolean(await sdk.verify(job)), why: "" };
  } catch (error) {
    return { accepted: false, why: String(error?.message ?? error) };
  }
}

const answers = [];
for (const job of JSON.parse(await text(process.stdin))) answers.push(await answer(job));
process.stdout.write(JSON.stringify(answers));

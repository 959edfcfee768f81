// An OpenID Connect provider for tests: `oidc-provider` with its development pages, on which any name and password sign in.
// A user who signs in as `ada:platform,ops` is in these two groups.
//
// The argument is JSON: the port, the client with its redirect URI, and whether claims are sent in the ID token.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const { port, client_id, client_secret, redirect_uri, in_id_token } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;

// New ones at each start, as after a rotation.
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: "RS256", use: "sig" };

const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: [randomUUID()] },
    clients: [{ client_id, client_secret, redirect_uris: [redirect_uri] }],
    claims: { openid: ["sub"], profile: ["preferred_username"], email: ["email"], groups: ["groups"] },
    conformIdTokenClaims: !in_id_token,
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
    findAccount: (_, id) => ({
        accountId: id,
        claims: () => {
            const [name, groups = ""] = id.split(":");
            return { sub: id, preferred_username: name, groups: groups.split(",").filter(Boolean) };
        },
    }),
});

createServer(provider.callback()).listen(port, "127.0.0.1", () => console.log(`provider listening on ${issuer}`));

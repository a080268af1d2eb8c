// openid-client through every flow. One JSON line in (what to do, with what), JSON lines out: what a person must do
// now, and at last what came of it. The test plays the person, and the application's address that is redirected to.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import * as jose from "jose";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await lines.next()).value);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const order = await read();
const issuer = new URL(order.issuer);
const insecure = { execute: [client.allowInsecureRequests] }; // http on the loopback address only

async function discover(id, auth, metadata = {}) {
  return client.discovery(issuer, id, metadata, auth, insecure);
}

/** Send the person to an address; return the address that the application was called at. */
async function visit(url, redirectUri) {
  say({ visit: url.href });
  const { query } = await read();
  return new URL(redirectUri + "?" + new URLSearchParams(query));
}

async function codeFlow(config, redirectUri, { par = false, jarm = false, jar, options } = {}) {
  const verifier = client.randomPKCECodeVerifier();
  const nonce = client.randomNonce();
  const state = client.randomState();
  const parameters = {
    redirect_uri: redirectUri, scope: order.scope ?? "openid profile roles", nonce, state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
    ...(jarm ? { response_mode: "jwt" } : {}),
  };
  if (jarm) client.useJwtResponseMode(config);
  const asked = jar ? (await client.buildAuthorizationUrlWithJAR(config, parameters, jar)).searchParams : parameters;
  const url = par
    ? await client.buildAuthorizationUrlWithPAR(config, asked, options)
    : client.buildAuthorizationUrl(config, parameters);
  const called = await visit(url, redirectUri);
  const tokens = await client.authorizationCodeGrant(
    config, called, { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, idTokenExpected: true },
    undefined, options,
  );
  return { tokens, claims: tokens.claims() };
}

const flows = {
  async standard() {
    const config = await discover(order.client, client.ClientSecretBasic(order.secret));
    const { tokens, claims } = await codeFlow(config, order.redirect);
    const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
    const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
    const before = await client.tokenIntrospection(config, refreshed.access_token);
    await client.tokenRevocation(config, refreshed.refresh_token);
    const after = await client.tokenIntrospection(config, refreshed.access_token);
    let afterRevocation = "";
    await client.refreshTokenGrant(config, refreshed.refresh_token).catch((problem) => (afterRevocation = problem.error));
    return {
      sub: claims.sub, userinfo: userinfo.sub, type: tokens.token_type, rotated: refreshed.refresh_token !== tokens.refresh_token,
      active: before.active, revoked: after.active, refused: afterRevocation,
    };
  },

  async high() {
    const key = await crypto.subtle.importKey(
      "jwk", order.key, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
    const config = await discover(order.client, client.PrivateKeyJwt({ key, kid: order.key.kid }));
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
    const { tokens, claims } = await codeFlow(config, order.redirect, {
      par: true, jarm: true, jar: { key, kid: order.key.kid }, options: { DPoP } });
    const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { DPoP });
    const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
    let asBearer = "";
    await client.fetchUserInfo(config, refreshed.access_token, claims.sub).catch(
      (problem) => (asBearer = problem.status ?? problem.cause?.[0]?.parameters?.error ?? problem.code));
    const seen = await client.tokenIntrospection(config, refreshed.access_token);
    return { sub: claims.sub, userinfo: userinfo.sub, type: tokens.token_type, asBearer, bound: Boolean(seen.cnf?.jkt) };
  },

  async machine() {
    const config = await discover(order.client, client.ClientSecretPost(order.secret));
    const tokens = await client.clientCredentialsGrant(config, { scope: "demo.read" });
    return { type: tokens.token_type, scope: tokens.scope, refused: await refusal(config) };
  },

  async device() {
    const config = await discover(order.client, client.None());
    const begun = await client.initiateDeviceAuthorization(config, { scope: "openid profile" });
    say({ device: begun.user_code, address: begun.verification_uri });
    await read();
    const tokens = await client.pollDeviceAuthorizationGrant(config, begun);
    return { sub: tokens.claims().sub, type: tokens.token_type };
  },

  async logout() {
    const told = [];
    const receiver = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => { told.push(new URLSearchParams(body).get("logout_token")); response.writeHead(200).end(); });
    });
    await new Promise((resolve) => receiver.listen(order.port, "127.0.0.1", resolve));
    const config = await discover(order.client, client.ClientSecretBasic(order.secret));
    const { tokens, claims } = await codeFlow(config, order.redirect);
    const url = client.buildEndSessionUrl(config, { post_logout_redirect_uri: order.bye, id_token_hint: tokens.id_token, state: "s" });
    say({ visit: url.href });
    await read();
    for (let waited = 0; told.length === 0 && waited < 10_000; waited += 50) await new Promise((go) => setTimeout(go, 50));
    receiver.close();
    receiver.closeAllConnections();
    const keys = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));
    const { payload, protectedHeader } = await jose.jwtVerify(told[0], keys, {
      issuer: config.serverMetadata().issuer, audience: order.client, typ: "logout+jwt" });
    let refused = "";
    await client.refreshTokenGrant(config, tokens.refresh_token).catch((problem) => (refused = problem.error));
    return {
      typ: protectedHeader.typ, sid: payload.sid === claims.sid, sub: payload.sub === claims.sub, nonce: "nonce" in payload,
      event: Object.keys(payload.events), times: told.length, refused,
    };
  },
};

async function refusal(config) {
  try {
    await client.clientCredentialsGrant(config, { scope: "openid" });
    return "";
  } catch (problem) {
    return problem.error;
  }
}

try {
  say({ done: await flows[order.flow]() });
} catch (problem) {
  say({ failed: `${problem.code ?? ""} ${problem.message} ${JSON.stringify(problem.cause ?? "", (_, v) => (v instanceof Error ? v.message : v))}` });
}
process.exit(0);

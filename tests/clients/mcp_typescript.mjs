// One release of the official TypeScript SDK against the service: what a client of its age does.
//
// usage: node mcp_typescript.mjs DEMO_URL CLAWSHIELD_URL PACKAGE
//
// PACKAGE is the name that package.json gives the release. Ends with its and the protocol's version.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const [demo, clawshield, name] = process.argv.slice(2);
const { Client } = await import(`${name}/client/index.js`);
const { StreamableHTTPClientTransport } = await import(`${name}/client/streamableHttp.js`);
const release = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;

// It asks for a stream of the server's own, and goes on without waiting for the answer.
const streams = [];
const unwatched = globalThis.fetch;
globalThis.fetch = (url, options) => {
  const answer = unwatched(url, options);
  if (options?.method === "GET") streams.push(answer);
  return answer;
};

async function connected(url, use) {
  const client = new Client({ name: "test", version: "1" });
  const failures = [];
  client.onerror = (error) => failures.push(error);
  const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`));
  await client.connect(transport);
  // A list is what makes the client hold every result to its schema.
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  assert.ok(names.includes("echo") && names.includes("add"), names);
  const call = async (name, args, own = {}) => {
    const answer = await client.callTool({ name, arguments: args, _meta: own });
    assert.deepEqual(JSON.parse(answer.content[0].text), answer.structuredContent);
    return answer;
  };
  await use(call, client);
  const version = transport.protocolVersion;
  // A stream is 405, as it should be, and no error. Closed before that answer, the client would call it one.
  const answers = await Promise.all(streams.splice(0));
  assert.deepEqual(answers.map((answer) => answer.status), [405]);
  await client.close();
  assert.deepEqual(failures, []);
  return version;
}

const version = await connected(demo, async (call, client) => {
  const nonce = { "openexec/nonce": randomUUID() };
  const first = await call("echo", { msg: "hello" }, nonce);
  assert.equal(first.isError, false);
  assert.deepEqual(first.structuredContent.result, { echo: { msg: "hello" } });
  assert.equal(first._meta["openexec/replayed"], undefined);
  const again = await call("echo", { msg: "hello" }, nonce);
  assert.deepEqual(again.structuredContent, first.structuredContent);
  assert.equal(again._meta["openexec/replayed"], true);
  // One bad value is told to the call that it stands in, and the session goes on.
  const bad = { number_out_of_range: 2 ** 53, lone_surrogate: "\ud800" };
  for (const [code, value] of Object.entries(bad)) {
    const refused = await call("echo", { value });
    assert.equal(refused.isError, true);
    assert.equal(refused.structuredContent.code, code);
  }
  await assert.rejects(client.callTool({ name: "nope", arguments: {} }), /Unknown tool: nope/);
  await client.ping();
  const done = await call("add", { a: 2, b: 3 });
  assert.deepEqual(done.structuredContent.result, { sum: 5 });
});
await connected(clawshield, async (call) => {
  const pending = await call("echo", { msg: "hello" });
  assert.ok(!pending.isError);
  assert.equal(pending.structuredContent.state, "pending");
  const followed = await call("openexec_proposal", { id: pending.structuredContent.id });
  assert.match(followed.structuredContent.action_hash, /^[0-9a-f]{64}$/);
});
console.log(`TypeScript SDK ${release}: ${version}`);

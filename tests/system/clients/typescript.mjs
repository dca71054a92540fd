// A TypeScript client, of either major version of the official SDK: it connects to each server it is given by the
// SDK's own OAuth flow, lists the tools, and calls one. It says what it wants a person to open, and what it found,
// as JSON lines on stdout.
//
//     node typescript.mjs FOLDER v1|v2 CALLS        with CALLS a JSON list of {url, tool, arguments}
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [folder, version, calls] = process.argv.slice(2);
const require = createRequire(`${folder}/any.js`);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const now = (step) => say({ step }); // what it waits for, should it wait too long

const { Client, StreamableHTTPClientTransport, UnauthorizedError } =
  version === "v2"
    ? require("@modelcontextprotocol/client")
    : {
        ...require("@modelcontextprotocol/sdk/client/index.js"),
        ...require("@modelcontextprotocol/sdk/client/streamableHttp.js"),
        ...require("@modelcontextprotocol/sdk/client/auth.js"),
      };

// Where the redirect comes to.
let arrived;
const listener = createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  response.end("Done");
  if (url.pathname === "/callback") arrived(url.searchParams);
});
await new Promise((ready) => listener.listen(0, "127.0.0.1", ready));
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

// What the SDK asks an application to keep: nothing but this run's memory.
class Kept {
  kept = {};
  get redirectUrl() {
    return redirectUrl;
  }
  get clientMetadata() {
    return { client_name: `TypeScript SDK ${version}`, redirect_uris: [redirectUrl] };
  }
  state() {
    return (this.kept.state = crypto.randomUUID());
  }
  clientInformation() {
    return this.kept.client;
  }
  saveClientInformation(client) {
    this.kept.client = client;
  }
  tokens() {
    return this.kept.tokens;
  }
  saveTokens(tokens) {
    this.kept.tokens = tokens;
  }
  redirectToAuthorization(url) {
    say({ open: url.href });
  }
  saveCodeVerifier(verifier) {
    this.kept.verifier = verifier;
  }
  codeVerifier() {
    return this.kept.verifier;
  }
}

async function connected(url) {
  const authProvider = new Kept();
  const transport = () => new StreamableHTTPClientTransport(new URL(url), { authProvider });
  const client = () => new Client({ name: "pegboard-tests", version: "1" });
  const answer = new Promise((resolve) => (arrived = resolve));
  const first = transport();
  now(`${url} without a token`);
  try {
    await client().connect(first);
    throw new Error("it let a stranger in");
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  now("the person's answer");
  const query = await answer;
  if (query.get("state") !== authProvider.kept.state) throw new Error("the state is another's");
  now("a token");
  await first.finishAuth(version === "v2" ? query : query.get("code"));
  now(`${url} with a token`);
  const again = client();
  await again.connect(transport());
  return again;
}

for (const { url, tool, arguments: given } of JSON.parse(calls)) {
  const client = await connected(url);
  now("the tools");
  const { tools } = await client.listTools();
  now("the call");
  const result = await client.callTool({ name: tool, arguments: given });
  say({ url, tools: tools.map(({ name }) => name), result });
  await client.close();
}
listener.close();
process.exit(0);

// VS Code's own reader of an MCP registry, out of its sources as an npm package has them: it finds out which version
// the registry speaks, reads the gallery page by page, and looks single servers up by their names. What it asked and
// what it understood goes to stdout as one JSON document.
//
//     node vscode_gallery.mjs FOLDER URL SEARCH NAMES        with NAMES a JSON list
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, serviceUrl, text, names] = process.argv.slice(2);
const require = createRequire(`${folder}/any.js`);
const load = (name) => import(pathToFileURL(require.resolve(`@codingame/monaco-vscode-${name}`)).href);

const { bufferToStream, VSBuffer } = await load("api/vscode/vs/base/common/buffer");
const { CancellationToken } = await load("api/vscode/vs/base/common/cancellation");
const { McpGalleryManifestService } = await load(
  "mcp-service-override/vscode/vs/platform/mcp/common/mcpGalleryManifestService",
);
const { McpGalleryService } = await load("mcp-service-override/vscode/vs/platform/mcp/common/mcpGalleryService");

const asked = [];
const requests = {
  async request({ url }) {
    asked.push(url.slice(serviceUrl.length));
    const response = await fetch(url);
    const body = VSBuffer.wrap(new Uint8Array(await response.arrayBuffer()));
    const headers = Object.fromEntries(response.headers);
    return { res: { statusCode: response.status, headers }, stream: bufferToStream(body) };
  },
};
const troubles = [];
const log = { trace() {}, info: (message) => troubles.push(message), error: (error) => troubles.push(String(error)) };

// As its workbench does for the setting chat.mcp.gallery.serviceUrl.
const manifests = new McpGalleryManifestService({}, requests, log);
const manifest = await manifests.createMcpGalleryManifest(serviceUrl);
const gallery = new McpGalleryService(requests, {}, log, { getMcpGalleryManifest: async () => manifest });

const found = await gallery.query({ text });
const pages = [found.firstPage];
while (pages.at(-1).hasMore) pages.push(await found.getNextPage(CancellationToken.None));
const looked_up = await gallery.getMcpServersFromGallery(JSON.parse(names).map((name) => ({ name })));
const document = { version: manifest.version, asked, troubles, pages: pages.map((page) => page.items), looked_up };
process.stdout.write(JSON.stringify(document));

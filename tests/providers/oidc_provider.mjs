// npm's certified `oidc-provider` as a company's login: its own pages, people from a file that tests change.
//     node oidc_provider.mjs PORT MODULES PEOPLE CLIENT
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, modules, people, client] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const provider = new Provider(`http://localhost:${port}`, {
  clients: [JSON.parse(client)],
  scopes: ['openid', 'offline_access'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], groups: ['groups'] },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  // Somebody who is not in the file any more has left: no token and no userinfo for them.
  findAccount: (_ctx, id) => {
    const known = JSON.parse(readFileSync(people, 'utf8'));
    return known[id] && { accountId: id, claims: () => ({ sub: id, ...known[id] }) };
  },
  rotateRefreshToken: true,
  // Pegboard is on this machine, where its guard against requests to such places would not go.
  fetch: (url, { dispatcher: _guarded, ...options }) => fetch(url, options),
  ttl: { Session: 3600, Grant: 3600, RefreshToken: 3600, AccessToken: 300, IdToken: 300, Interaction: 600 },
  cookies: { keys: ['a key of the test'] },
});
// Without its people it is as if its database were gone.
provider.use(async (ctx, next) => (existsSync(people) ? next() : ctx.throw(503)));
provider.on('backchannel.error', (_ctx, error) => console.error(error));
provider.on('server_error', (_ctx, error) => console.error(error));
provider.listen(Number(port), 'localhost');

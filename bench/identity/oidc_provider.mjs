// npm's certified `oidc-provider`, everything in memory: somebody is signed in without a page, and asked nothing.
//     node oidc_provider.mjs PORT MODULES
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const provider = new Provider(`http://localhost:${port}`, {
  clients: [{
    client_id: 'bench',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
  }],
  features: { devInteractions: { enabled: false } },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid offline_access');
    await grant.save();
    return grant;
  },
});
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ana' } });
  ctx.respond = false;
});
provider.listen(Number(port), '127.0.0.1');

// The OAuth server of the end-to-end tests: oidc-provider on loopback, client credentials and introspection only.
//
// Standard input: one JSON object, {"clients": [{client_id, client_secret, token_endpoint_auth_method}, …]}.
// Standard output: one JSON object a line, first {"issuer", "token_endpoint", "introspection_endpoint"}, then one for each
// token given: {"client_id", "authentication"}. It ends when its input ends.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { Provider } from 'oidc-provider';

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const input = createInterface({ input: process.stdin });
input.once('close', () => process.exit(0));
const { clients } = JSON.parse(await new Promise((resolve) => input.once('line', resolve)));

// The issuer's URL must be known before there is a provider, so the port comes first.
const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: clients.map((client) => ({ ...client, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] })),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
  },
  ttl: { ClientCredentials: 600 },
});
provider.on('grant.success', ({ headers, oidc }) => {
  say({ client_id: oidc.client.clientId, authentication: headers.authorization ? 'client_secret_basic' : 'client_secret_post' });
});
server.on('request', provider.callback());
say({ issuer, token_endpoint: `${issuer}/token`, introspection_endpoint: `${issuer}/token/introspection` });

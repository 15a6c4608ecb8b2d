// A certified OpenID provider, https://github.com/panva/node-oidc-provider, with people of our own and a form to sign in.

import { createServer } from 'node:http';
import { once } from 'node:events';

import Provider from 'oidc-provider';

/// Starts one for a client that is sent back to `callback`. `people` has what is said of each by their subject.
export async function start(callback, people) {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: 'guildhall', client_secret: 'otter+violin&granite', redirect_uris: [callback] }],
    pkce: { required: () => true, methods: ['S256'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    // Whoever asks for these gets them when it asks for user info, as OpenID Connect has it; see `conformIdTokenClaims`.
    scopes: ['openid', 'email', 'profile'],
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/sign-in/${interaction.uid}` },
    cookies: { keys: ['of the test'] },
    findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
    ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 600, IdToken: 60, Interaction: 600, Session: 600 },
  });
  const asked = [];
  const callbackOf = provider.callback();
  server.on('request', async (request, response) => {
    asked.push(`${request.method} ${request.url.split('?')[0]}`);
    if (!request.url.startsWith('/sign-in/')) return callbackOf(request, response);
    if (request.method === 'GET') {
      response.setHeader('content-type', 'text/html');
      return response.end(`<form method="post" action="${request.url}"><input name="subject"><button>Sign in</button></form>`);
    }
    let body = '';
    for await (const part of request) body += part;
    const subject = new URLSearchParams(body).get('subject');
    const { params } = await provider.interactionDetails(request, response);
    const grant = new provider.Grant({ accountId: subject, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    const result = people[subject]
      ? { login: { accountId: subject }, consent: { grantId: await grant.save() } }
      : { error: 'access_denied' };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  });
  return { issuer, asked, stop: () => server.close() };
}

/// A browser: it keeps cookies and follows redirects until it leaves the provider.
export async function signInAt(provider, url, subject) {
  const cookies = new Map();
  const ask = async (address, options = {}) => {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(address, { redirect: 'manual', ...options, headers: { cookie, ...options.headers } });
    for (const set of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(set);
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    return answer;
  };
  let next = url;
  for (let steps = 0; steps < 10; steps += 1) {
    if (!next.startsWith(provider.issuer)) return next;
    let answer = await ask(next);
    if (answer.status === 200) {
      const action = /action="([^"]+)"/.exec(await answer.text())?.[1];
      if (!action) throw new Error(`nothing to fill in at ${next}`);
      answer = await ask(new URL(action, next), {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ subject }).toString(),
      });
    }
    const location = answer.headers.get('location');
    if (!location) throw new Error(`${answer.status} at ${next}: ${await answer.text()}`);
    next = new URL(location, next).href;
  }
  throw new Error('a circle of redirects');
}

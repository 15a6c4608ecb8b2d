// Signs in by a certified OpenID provider: discovery, PKCE, nonce, user info, and whom it lets in. Run by tests/clients/run.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { signInAt, start } from './provider.mjs';

const url = process.env.GUILDHALL_URL;
const password = 'granite otter violin 7 lantern';
const home = `${url}/playground`;

async function graphql(query, variables = {}, token = undefined) {
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`${url}/graphql`, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  return answer.json();
}

async function mutate(name, type, input, selection, token) {
  const query = `mutation($input: ${type}!) { ${name}(input: $input) { ${selection} userErrors { code message field } } }`;
  const { data, errors } = await graphql(query, { input }, token);
  return { payload: data?.[name], code: data?.[name]?.userErrors[0]?.code ?? errors?.[0]?.extensions.code, errors };
}

async function done(name, type, input, selection, token) {
  const { payload, code, errors } = await mutate(name, type, input, selection, token);
  assert.equal(code, undefined, `${name}: ${JSON.stringify(payload?.userErrors ?? errors)}`);
  return payload;
}

const people = {
  's-eve': { email: 'Eve@corp.example', email_verified: true, name: 'Eve Adams' },
  's-max': { email: 'max@corp.example', email_verified: true, name: 'Max' },
  's-new': { email: 'new@corp.example', email_verified: false, name: 'New' },
  's-far': { email: 'ada@example.org', email_verified: true, name: 'Not Ada' },
};
let ada;
let organizationId;
let provider;

/// The secret of the link in the first mail to an address, which is a file.
async function secretOfMail(address) {
  for (let tries = 0; tries < 200; tries += 1) {
    const files = await readdir(process.env.GUILDHALL_MAIL).catch(() => []);
    for (const file of files.filter((name) => name.endsWith('.eml'))) {
      const mail = (await readFile(`${process.env.GUILDHALL_MAIL}/${file}`, 'utf8')).replaceAll('=\r\n', '').replaceAll('=3D', '=');
      const link = /\/invitations\/([\w-]{43})/.exec(mail);
      if (link && mail.includes(address)) return link[1];
    }
    await sleep(50);
  }
  throw new Error(`no mail to ${address}`);
}

/// Walks through the provider: where the browser goes on.
async function walk(subject) {
  const selection = 'authorizationUrl secret';
  const input = { email: 'somebody@corp.example', redirectTo: home };
  const { authorizationUrl, secret } = await done('startSingleSignOn', 'StartSingleSignOnInput', input, selection);
  const back = await signInAt(provider, authorizationUrl, subject);
  assert.ok(back.startsWith(`${url}/sso/callback/example?`), back);
  const page = await fetch(back, { redirect: 'manual' });
  assert.equal(page.status, 303);
  const to = new URL(page.headers.get('location'));
  assert.equal(to.origin + to.pathname, home);
  return { secret, code: to.searchParams.get('code'), error: to.searchParams.get('error'), back };
}

const finishing = (input, selection = 'user { id email displayName } session { accessToken }') =>
  mutate('finishSingleSignOn', 'FinishSingleSignOnInput', input, selection);

async function signIn(subject) {
  const { code, secret, error } = await walk(subject);
  assert.equal(error, null);
  return finishing({ code, secret });
}

const configure = (change) =>
  mutate(
    'configureSingleSignOn',
    'ConfigureSingleSignOnInput',
    { organizationId, issuer: provider.issuer, clientId: 'guildhall', ...change },
    'singleSignOn { provisioning passwordSignIn workedAt callbackUrl clientSecret { isSet fingerprint } }',
    ada,
  );

before(async () => {
  provider = await start(`${url}/sso/callback/example`, people);
  const input = { token: process.env.GUILDHALL_SETUP_TOKEN, email: 'ada@example.org', displayName: 'Ada', password, organizationName: 'Example' };
  ada = (await done('setUp', 'SetUpInput', input, 'session { accessToken }')).session.accessToken;
  const { data } = await graphql('{ organization(slug: "example") { id } }', {}, ada);
  organizationId = data.organization.id;
  // DNS does not know of corp.example, so its operator says whose it is.
  const env = { PATH: process.env.PATH, GUILDHALL_DATA_DIR: process.env.GUILDHALL_DATA };
  execFileSync(process.env.GUILDHALL_BINARY, ['admin', 'verify-domain', 'example', 'corp.example'], { env, stdio: 'pipe' });
  const { payload } = await configure({ clientSecret: 'otter+violin&granite' });
  assert.equal(payload.singleSignOn.callbackUrl, `${url}/sso/callback/example`);
});

after(() => provider.stop());

test('who is not invited stays outside, and who is finds the invitation', async () => {
  assert.equal((await signIn('s-eve')).code, 'NOT_INVITED');
  const { data } = await graphql('{ viewer { defaultWorkspace { id } } }', {}, ada);
  const invitation = { workspaceId: data.viewer.defaultWorkspace.id, email: 'eve@corp.example', role: 'EDITOR' };
  await done('inviteMember', 'InviteMemberInput', invitation, 'invitation { id }', ada);
  const { payload } = await signIn('s-eve');
  assert.deepEqual([payload.user.email, payload.user.displayName], ['eve@corp.example', 'Eve Adams']);
  const token = payload.session.accessToken;
  const waits = await graphql('{ viewer { organizations { totalCount } invitations { nodes { id status } } } }', {}, token);
  assert.equal(waits.data.viewer.organizations.totalCount, 0);
  const [{ id, status }] = waits.data.viewer.invitations.nodes;
  assert.equal(status, 'PENDING');
  await done('acceptInvitation', 'AnswerInvitationInput', { invitationId: id }, 'invitation { id }', token);
  assert.ok(provider.asked.includes('POST /token') && provider.asked.includes('GET /me'), provider.asked.join(', '));
});

test('the subject counts when the address at the provider changes', async () => {
  const { payload: was } = await signIn('s-eve');
  people['s-eve'].email = 'eva@corp.example';
  const { payload: is } = await signIn('s-eve');
  assert.deepEqual(is.user, was.user);
});

test('whoever has an address in the domain becomes a member', async () => {
  assert.equal((await signIn('s-max')).code, 'NOT_INVITED');
  await configure({ provisioning: 'DOMAIN' });
  const { payload } = await signIn('s-max');
  const { data } = await graphql('{ viewer { organizations { nodes { slug viewerRole } } } }', {}, payload.session.accessToken);
  assert.deepEqual(data.viewer.organizations.nodes, [{ slug: 'example', viewerRole: 'MEMBER' }]);
});

test('a provider is believed of what it has verified, and of its own domains', async () => {
  assert.equal((await walk('s-new')).error, 'EMAIL_UNVERIFIED');
  assert.equal((await signIn('s-far')).code, 'DOMAIN_UNVERIFIED');
  assert.equal((await walk('nobody')).error, 'PROVIDER_REFUSED');
});

test('of those who come at once one gets in', async () => {
  const { secret, code, back } = await walk('s-max');
  assert.equal((await fetch(back, { redirect: 'manual' })).status, 404);
  const answers = await Promise.all([1, 2, 3, 4].map(() => finishing({ code, secret })));
  assert.equal(answers.filter(({ code: refused }) => refused === undefined).length, 1);
  assert.ok(answers.every(({ code: refused }) => refused === undefined || refused === 'SIGN_ON_INVALID'));
});

test('passwords can be switched off, but for an owner', async () => {
  const member = { workspaceId: undefined, email: 'pat@example.org', role: 'VIEWER' };
  const home = (await graphql('{ viewer { defaultWorkspace { id name } } }', {}, ada)).data.viewer.defaultWorkspace;
  const seen = async (token) => {
    const { data, errors } = await graphql('query($n: String!) { workspace(name: $n) { id } }', { n: home.name }, token);
    return errors?.[0].extensions.code ?? data.workspace.id;
  };
  await done('inviteMember', 'InviteMemberInput', { ...member, workspaceId: home.id }, 'invitation { id }', ada);
  const token = await secretOfMail('pat@example.org');
  const registered = { token, displayName: 'Pat', password };
  const pat = (await done('register', 'RegisterInput', registered, 'session { accessToken }')).session.accessToken;
  const max = (await signIn('s-max')).payload;
  const invited = { workspaceId: home.id, email: 'max@corp.example', role: 'VIEWER' };
  const { invitation } = await done('inviteMember', 'InviteMemberInput', invited, 'invitation { id }', ada);
  await done('acceptInvitation', 'AnswerInvitationInput', { invitationId: invitation.id }, 'invitation { id }', max.session.accessToken);
  assert.equal(await seen(pat), home.id);
  const { payload } = await configure({ provisioning: 'DOMAIN', passwordSignIn: false });
  assert.ok(payload.singleSignOn.workedAt && !payload.singleSignOn.passwordSignIn);
  assert.equal(await seen(pat), 'SINGLE_SIGN_ON_REQUIRED');
  assert.equal(await seen(max.session.accessToken), home.id);
  const again = { email: 'ada@example.org', password };
  const owner = (await done('signIn', 'SignInInput', again, 'session { accessToken }')).session.accessToken;
  assert.equal(await seen(owner), home.id);
});

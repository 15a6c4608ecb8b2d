// What people see in their browser, from the set-up link to an accepted invitation.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { after, afterEach, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Browser } from './browser.mjs';
import { Playground } from './playground.mjs';

const { GUILDHALL_URL: url, GUILDHALL_SETUP_TOKEN: setupToken, GUILDHALL_MAIL: mail } = process.env;
assert.ok(url && setupToken && mail, 'run this by ../clients/serve');

const ada = { email: 'ada@example.org', password: 'violet tram under the bridge' };
let browser;
let token;
let watching;
let workspaceId;

before(async () => {
  browser = await Browser.start(url);
});
after(() => browser.close());
afterEach(() => assert.deepEqual(browser.faults.splice(0), []));

/** The link in the mail to an address, waited for; another one than `known`. */
async function linkMailedTo(address, known) {
  for (let tries = 0; tries < 200; tries += 1) {
    const files = await readdir(mail).catch(() => []);
    for (const file of files.filter((file) => file.endsWith('.eml'))) {
      const text = (await readFile(join(mail, file), 'utf8')).replaceAll('=\r\n', '');
      const link = text.match(/http:\/\/\S+\/invitations\/[\w-]{43}/)?.[0];
      if (text.includes(address) && link !== undefined && link !== known) return link;
    }
    await sleep(25);
  }
  return assert.fail(`no mail to ${address}`);
}

/** Asks the API, as another person's program would. */
async function ask(query, variables) {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined);
  return data;
}

/** Invites somebody, and returns the link of their mail. */
async function invite(email, workspaceId) {
  const query = 'mutation($input: InviteMemberInput!) { inviteMember(input: $input) { userErrors { message } } }';
  const message = 'Come and see what we found.\nBring a coat.';
  const { inviteMember } = await ask(query, { input: { workspaceId, email, role: 'VIEWER', message } });
  assert.deepEqual(inviteMember.userErrors, []);
  return linkMailedTo(email);
}

test('what a page asks outside is refused and noticed, and so is a complaint', { timeout: 60_000 }, async () => {
  const page = await browser.page();
  await page.setContent('<img src="https://example.org/pixel.png"><script>console.error("no")</script>');
  await page.waitForLoadState('networkidle');
  const faults = browser.faults.splice(0);
  assert.ok(faults.includes('asks outside: https://example.org/pixel.png'), faults.join('\n'));
  assert.ok(faults.includes('console: no'), faults.join('\n'));
});

test('the set-up link of the playground fills in its token, and queries run', { timeout: 60_000 }, async () => {
  const page = await browser.page();
  watching = await Playground.open(page, `${url}/playground#setup=${setupToken}`);
  await browser.picture(page, 'playground-1-first');
  assert.ok(!page.url().includes(setupToken), 'the secret stays in the address bar');
  await page.mouse.move(640, 10);
  await page.mouse.wheel(0, 400);
  assert.equal(await page.evaluate(() => scrollY), 0, 'the page scrolls to where nothing is');
  await watching.writeVariables((variables) => {
    assert.equal(variables.setUp.token, setupToken);
    Object.assign(variables.setUp, ada, { displayName: 'Ada Lovelace', organizationName: 'Analytical Society' });
    Object.assign(variables.signIn, ada);
  });
  await watching.run('SetUp');
  await watching.answer(({ data }) => data?.setUp?.userErrors.length === 0, 'the set-up');
  await watching.run('SignIn');
  const signedIn = await watching.answer(({ data }) => data?.signIn?.session, 'the session');
  token = signedIn.data.signIn.session.accessToken;
  await watching.write('headers', JSON.stringify({ authorization: `Bearer ${token}` }));
  await watching.run('Viewer');
  const viewer = await watching.answer(({ data }) => data?.viewer, 'the viewer');
  assert.equal(viewer.data.viewer.user.displayName, 'Ada Lovelace');
  workspaceId = viewer.data.viewer.workspaces.nodes[0].id;
  await browser.picture(page, 'playground-2-query');
});

test('its documentation tells of a field', { timeout: 60_000 }, async () => {
  const page = watching.page;
  await page.locator('button[aria-label*="Documentation Explorer"]').click();
  await page.getByRole('link', { name: 'Subscription', exact: true }).click();
  await page.getByText('Every change of an invitation of the workspace').waitFor();
  await browser.picture(page, 'playground-3-documentation');
  await page.locator('button[aria-label*="Documentation Explorer"]').click();
});

test('a subscription in the playground gets an event as it happens', { timeout: 60_000 }, async () => {
  await watching.writeVariables((variables) => Object.assign(variables, { workspaceId }));
  const subscribed = new Promise((resolve) => {
    watching.page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => JSON.parse(payload).type === 'subscribe' && resolve());
    });
  });
  await watching.run('InvitationStatusChanged');
  await subscribed;
  // The protocol does not tell when a subscription runs.
  await sleep(500);
  await invite('grace@example.org', workspaceId);
  const isPending = ({ data }) => data?.invitationStatusChanged?.invitation?.status === 'PENDING';
  await watching.answer(isPending, 'the invitation');
  await browser.picture(watching.page, 'playground-4-subscription');
});

/** Fills in the form and accepts; whether by script or not is the page's own business. */
async function accept(page, link, name) {
  await page.goto(link);
  await browser.picture(page, `invitation-${name}-1-offer`);
  await page.getByLabel('Your name').fill('Grace Hopper');
  // What the browser itself refuses is not sent; what the server refuses keeps what was typed.
  await page.locator('#register-password').fill('password');
  const refused = page.waitForResponse((response) => response.request().method() === 'POST');
  await page.getByRole('button', { name: 'Create account and accept' }).click();
  assert.equal((await refused).status(), 422);
  await page.getByRole('alert').first().waitFor();
  browser.faults = browser.faults.filter((fault) => !fault.includes('422'));
  assert.equal(await page.getByLabel('Your name').inputValue(), 'Grace Hopper');
  await browser.picture(page, `invitation-${name}-2-refused`);
  await page.locator('#register-password').fill('a moth in relay seventy');
  await page.getByRole('button', { name: 'Create account and accept' }).click();
  await page.getByRole('heading', { name: 'Welcome!' }).waitFor();
  await browser.picture(page, `invitation-${name}-3-welcome`);
}

test('an invitation is accepted on its page, and whoever watches is told', { timeout: 60_000 }, async () => {
  const page = await browser.page();
  await accept(page, await linkMailedTo('grace@example.org'), 'script');
  const isAccepted = ({ data }) => data?.invitationStatusChanged?.invitation?.status === 'ACCEPTED';
  await watching.answer(isAccepted, 'the acceptance');
});

test('an invitation is accepted without JavaScript, on a small screen in the dark', { timeout: 60_000 }, async () => {
  const small = { viewport: { width: 375, height: 720 }, colorScheme: 'dark', javaScriptEnabled: false };
  await accept(await browser.page(small), await invite('zoe@example.org', workspaceId), 'plain');
});

test('who has an account signs in on the page, without JavaScript', { timeout: 60_000 }, async () => {
  const query = 'mutation { createWorkspace(input: { displayName: "Malaria Atlas" }) { workspace { id } } }';
  const { createWorkspace } = await ask(query);
  const first = await linkMailedTo('grace@example.org');
  await invite('grace@example.org', createWorkspace.workspace.id);
  const link = await linkMailedTo('grace@example.org', first);
  const page = await browser.page({ javaScriptEnabled: false });
  await page.goto(link);
  await page.getByText('I already have an account').click();
  await page.locator('#sign-in-email').fill('grace@example.org');
  await page.locator('#sign-in-password').fill('a moth in relay seventy');
  await browser.picture(page, 'invitation-account-1-filled-in');
  await page.getByRole('button', { name: 'Sign in and accept' }).click();
  await page.getByText('You are now a member of Malaria Atlas.').waitFor();
  await page.goto(link);
  await page.getByRole('heading', { name: 'This invitation was already answered' }).waitFor();
  await browser.picture(page, 'invitation-account-2-answered');
});

test('who does not want to come declines', { timeout: 60_000 }, async () => {
  const page = await browser.page();
  await page.goto(await invite('eve@example.org', workspaceId));
  await page.getByRole('button', { name: 'Decline the invitation' }).click();
  await page.getByRole('heading', { name: 'You declined the invitation' }).waitFor();
  await browser.picture(page, 'invitation-declined');
});

test('the other pages of the server complain of nothing', { timeout: 60_000 }, async () => {
  const page = await browser.page();
  for (const [name, path] of Object.entries({ home: '/', 'set-up': `/setup?token=${setupToken}`, reset: '/reset' })) {
    await page.goto(url + path);
    await browser.picture(page, `page-${name}`);
  }
  await page.goto(url);
  await page.getByRole('link', { name: 'Open the playground' }).click();
  await page.waitForSelector('.graphiql-query-editor .view-line');
});

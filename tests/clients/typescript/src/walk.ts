// The main job, from an empty server to an accepted invitation, by whatever client.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import WebSocket from 'ws';
import {
  CreateWorkspaceDocument,
  InvitationByTokenDocument,
  InvitationStatusChangedDocument,
  type InvitationStatusChangedSubscription,
  InviteMemberDocument,
  RegisterDocument,
  RevokeInvitationDocument,
  SetUpDocument,
  SignInDocument,
  WorkspaceDocument,
} from './generated.js';
import { Session } from './session.js';
import { createSocket } from './socket.js';

/** What the walk needs of a client. */
export interface Api {
  query<Data, Variables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Data>;
  mutate<Data, Variables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Data>;
  /** Returns what ends it. */
  watch<Data, Variables>(
    document: TypedDocumentNode<Data, Variables>,
    variables: Variables,
    next: (data: Data) => void,
  ): () => void;
}

export type MakeApi = (session: Session, socket: ReturnType<typeof createSocket>) => Api;

const environment = (name: string): string => {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: run this by ../serve`);
  return value;
};

/** The link in the mail to an address, waited for. */
async function linkMailedTo(address: string): Promise<string> {
  const directory = environment('GUILDHALL_MAIL');
  for (let tries = 0; tries < 200; tries += 1) {
    const files = await readdir(directory).catch(() => []);
    for (const file of files.filter((file) => file.endsWith('.eml'))) {
      // Long lines are folded with a `=` at the end.
      const mail = (await readFile(join(directory, file), 'utf8')).replaceAll('=\r\n', '');
      const link = mail.match(/http:\/\/\S+\/invitations\/[\w-]{43}/)?.[0];
      if (mail.includes(address) && link !== undefined) return link;
    }
    await sleep(25);
  }
  throw new Error(`no mail to ${address} in ${directory}`);
}

/** Fails unless the mutation did what it should. */
function done<Payload extends { userErrors: { code: string; message: string }[] }>(payload: Payload): Payload {
  assert.deepEqual(payload.userErrors, []);
  return payload;
}

type Change = InvitationStatusChangedSubscription['invitationStatusChanged'];

/** A network that breaks and comes back when the test says so. */
class Network {
  readonly sockets: WebSocket[] = [];
  #back: (() => void) | null = null;

  readonly options = {
    webSocketImpl: open(this.sockets),
    retryWait: (): Promise<void> => new Promise((resolve) => (this.#back = resolve)),
  };

  breaks(): void {
    this.sockets.at(-1)?.terminate();
  }

  /** Once the client has noticed that it is gone. */
  async comesBack(): Promise<void> {
    await until(() => this.#back !== null, 'the client does not notice that the network is gone');
    this.#back?.();
  }
}

/** A class of sockets that notes each one. */
function open(sockets: WebSocket[]): typeof WebSocket {
  return class extends WebSocket {
    constructor(address: string, protocols?: string[]) {
      super(address, protocols);
      sockets.push(this);
    }
  } as typeof WebSocket;
}

async function until(isIt: () => boolean, otherwise: string): Promise<void> {
  for (let tries = 0; tries < 400 && !isIt(); tries += 1) await sleep(25);
  assert.ok(isIt(), otherwise);
}

export async function walk(makeApi: MakeApi): Promise<void> {
  const network = new Network();
  const session = new Session(environment('GUILDHALL_URL'));
  const socket = createSocket(session, network.options);
  try {
    const stranger = makeApi(new Session(session.url), socket);
    await go(session, network, makeApi(session, socket), stranger);
  } finally {
    await socket.dispose();
  }
}

async function go(session: Session, network: Network, api: Api, stranger: Api): Promise<void> {
  const ada = { displayName: 'Ada Lovelace', email: 'ada@example.org', password: 'violet tram under the bridge' };

  // Set up, with the secret of the link that the server printed; a second time is refused by a code.
  const setUp = { ...ada, organizationName: 'Analytical Society', token: environment('GUILDHALL_SETUP_TOKEN') };
  const first = done((await api.mutate(SetUpDocument, { input: setUp })).setUp);
  assert.equal(first.user?.displayName, 'Ada Lovelace');
  const second = (await api.mutate(SetUpDocument, { input: setUp })).setUp;
  assert.deepEqual(second.userErrors.map(({ code }) => code), ['SETUP_DONE']);

  // Sign in.
  const { email, password } = ada;
  const signedIn = done((await api.mutate(SignInDocument, { input: { email, password } })).signIn);
  assert.ok(signedIn.session);
  session.tokens = signedIn.session;

  // Make a workspace, and watch its invitations.
  const input = { displayName: 'Malaria Atlas', countries: ['BJ', 'TG'] };
  const { workspace } = done((await api.mutate(CreateWorkspaceDocument, { input })).createWorkspace);
  assert.ok(workspace);
  const workspaceId = workspace.id;
  const changes: Change[] = [];
  let reads = 0;
  const watched = { workspaceId, after: 'now' };
  const stop = api.watch(InvitationStatusChangedDocument, watched, ({ invitationStatusChanged: change }) => {
    // First of all, and after a break that was too long: a screen reads its list now.
    if (change.resyncRequired) reads += 1;
    else changes.push(change);
  });
  await until(() => reads === 1, 'the subscription does not begin');
  const told = async (status: string, address: string): Promise<void> => {
    const isIt = (change: Change): boolean => change.status === status && change.invitation?.email === address;
    await until(() => changes.some(isIt), `${address} being ${status} is not told`);
  };

  // Invite somebody, who sees the invitation and accepts it.
  const invite = async (address: string): Promise<string> => {
    const input = { workspaceId, email: address, role: 'VIEWER' };
    const { invitation } = done((await api.mutate(InviteMemberDocument, { input })).inviteMember);
    assert.ok(invitation);
    assert.equal(invitation.status, 'PENDING');
    return invitation.id;
  };
  await invite('grace@example.org');
  await told('PENDING', 'grace@example.org');
  const token = (await linkMailedTo('grace@example.org')).split('/').at(-1) ?? '';
  const { invitationByToken } = await api.query(InvitationByTokenDocument, { token });
  assert.equal(invitationByToken?.inviterName, 'Ada Lovelace');
  assert.deepEqual(invitationByToken.workspaces.map(({ role }) => role.name), ['Viewer']);
  const register = { token, displayName: 'Grace Hopper', password: 'a moth in relay seventy' };
  const registered = done((await stranger.mutate(RegisterDocument, { input: register })).register);
  assert.equal(registered.invitation?.status, 'ACCEPTED');
  await told('ACCEPTED', 'grace@example.org');

  // The network breaks; what happens meanwhile comes when it is back, each change once and in order.
  const before = changes.length;
  network.breaks();
  const missed = await invite('eve@example.org');
  const revoke = { workspaceId, invitationId: missed };
  done((await api.mutate(RevokeInvitationDocument, { input: revoke })).revokeInvitation);
  await session.refresh();
  assert.equal(changes.length, before, 'something came through a broken network');
  await network.comesBack();
  await told('REVOKED', 'eve@example.org');
  assert.equal(network.sockets.length, 2);
  assert.equal(reads, 1, 'what was missed was not told, but to be read anew');
  const cursors = changes.map(({ cursor }) => cursor);
  assert.deepEqual(cursors, [...new Set(cursors)], 'a change came twice');
  const ofEve = changes.slice(before).filter((change) => change.invitation?.id === missed);
  assert.deepEqual([ofEve[0]?.status, ofEve.at(-1)?.status], ['PENDING', 'REVOKED']);
  stop();

  // Who is there now, page by page.
  const names: string[] = [];
  let after: string | null = null;
  do {
    const variables: { name: string; after: string | null } = { name: workspace.name, after };
    const { workspace: seen } = await api.query(WorkspaceDocument, variables);
    assert.ok(seen?.members);
    assert.equal(seen.members.totalCount, 2);
    names.push(...seen.members.nodes.map(({ principal }) => principal.displayName));
    after = seen.members.pageInfo.hasNextPage ? seen.members.pageInfo.endCursor : null;
  } while (after !== null);
  assert.deepEqual(names, ['Ada Lovelace', 'Grace Hopper']);
}

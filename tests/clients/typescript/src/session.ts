// Who is signed in. The access token lasts 15 minutes; each refresh gives the next one, and the next refresh token.
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { print } from 'graphql';
import { RefreshSessionDocument } from './generated.js';

export interface Tokens {
  accessToken: string;
  expiresAt: string;
  refreshToken: string;
}

/** Keeps the tokens of one person, and refreshes them before they end, once for all who ask meanwhile. */
export class Session {
  tokens: Tokens | null = null;
  #refreshing: Promise<void> | null = null;

  constructor(readonly url: string) {}

  /** The header `Authorization`, in the form that HTTP and `connection_init` take alike. */
  async headers(): Promise<{ authorization?: string }> {
    if (this.tokens !== null && Date.parse(this.tokens.expiresAt) - Date.now() < 30_000) {
      await this.refresh();
    }
    return this.tokens === null ? {} : { authorization: `Bearer ${this.tokens.accessToken}` };
  }

  /** Gets new tokens. Who can have none any more is signed out. */
  async refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    await this.#refreshing;
  }

  async #refresh(): Promise<void> {
    if (this.tokens === null) return;
    const input = { refreshToken: this.tokens.refreshToken };
    const { refreshSession } = await post(this.url, RefreshSessionDocument, { input });
    this.tokens = refreshSession.session;
  }
}

/** One operation by plain fetch, for whoever needs no client. */
async function post<Data, Variables>(
  url: string,
  document: TypedDocumentNode<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json' },
    body: JSON.stringify({ query: print(document), variables }),
  });
  const { data, errors } = (await response.json()) as { data?: Data; errors?: { message: string }[] };
  if (errors !== undefined || data === undefined) {
    throw new Error(errors?.map(({ message }) => message).join(' ') ?? `HTTP ${response.status}`);
  }
  return data;
}

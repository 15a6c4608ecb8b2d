// One socket for all subscriptions of a client, which opens again after a break and goes on where it was.
import { type Client, type ClientOptions, createClient } from 'graphql-ws';
import type { Session } from './session.js';

/** A graphql-ws client. In a browser `options` may be empty; Node 20 has no WebSocket of its own and is given one. */
export function createSocket(session: Session, options: Partial<ClientOptions> = {}): Client {
  const client = createClient({
    url: `${session.url.replace(/^http/, 'ws')}/graphql/ws`,
    // Asked for anew at each connection: when the token ends, the server closes with 4403, and the next one is used.
    connectionParams: async () => ({ ...(await session.headers()) }),
    retryAttempts: 100,
    // Notices a dead network although nobody closes.
    keepAlive: 10_000,
    ...options,
  });
  return resuming(client);
}

/**
 * A client that asks for what was missed when it subscribes again after a break. It works for every subscription
 * whose document takes `$after` and selects `cursor`: graphql-ws writes the variables anew for each connection, and
 * finds the newest cursor there.
 */
function resuming(client: Client): Client {
  return {
    ...client,
    subscribe(payload, sink) {
      let after = payload.variables?.['after'];
      const variables = { ...payload.variables };
      Object.defineProperty(variables, 'after', { enumerable: true, get: () => after });
      return client.subscribe<Record<string, unknown>, unknown>(
        { ...payload, variables },
        {
          next(result) {
            for (const event of Object.values(result.data ?? {})) {
              after = (event as { cursor?: string } | null)?.cursor ?? after;
            }
            sink.next(result as never);
          },
          error: (error) => sink.error(error),
          complete: () => sink.complete(),
        },
      );
    },
  };
}

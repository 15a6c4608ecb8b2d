// Guildhall with urql.
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { authExchange } from '@urql/exchange-auth';
import type { Client as Socket } from 'graphql-ws';
import type { Session } from './session.js';

export function createUrql(session: Session, socket: Socket): Client {
  return new Client({
    url: `${session.url}/graphql`,
    preferGetMethod: false,
    exchanges: [
      authExchange(async ({ appendHeaders }) => {
        let headers = await session.headers();
        return {
          addAuthToOperation: (operation) => appendHeaders(operation, headers),
          willAuthError: () => true, // Asks `refreshAuth` first, which costs nothing while the token is good.
          async refreshAuth() {
            headers = await session.headers();
          },
          didAuthError: ({ graphQLErrors }) =>
            graphQLErrors.some(({ extensions }) => extensions['code'] === 'UNAUTHENTICATED'),
        };
      }),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query, variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: socket.subscribe({ query: query ?? '', variables: variables ?? null }, sink as never),
          }),
        }),
      }),
    ],
  });
}

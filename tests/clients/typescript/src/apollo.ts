// Guildhall with Apollo Client.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client';
import { SetContextLink } from '@apollo/client/link/context';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { OperationTypeNode } from 'graphql';
import type { Client as Socket } from 'graphql-ws';
import type { Session } from './session.js';

export function createApollo(session: Session, socket: Socket): ApolloClient {
  const authorized = new SetContextLink(async ({ headers }) => ({
    headers: { ...headers, ...(await session.headers()) },
  }));
  return new ApolloClient({
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(socket),
      authorized.concat(new HttpLink({ uri: `${session.url}/graphql` })),
    ),
    // Every id is global, so objects are kept by `id` and type as Apollo does by itself.
    cache: new InMemoryCache(),
  });
}

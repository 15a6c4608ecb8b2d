import test from 'node:test';
import type { OperationVariables } from '@apollo/client';
import { createApollo } from './apollo.js';
import { walk } from './walk.js';

function read<Data>({ data, error }: { data?: Data | null | undefined; error?: Error | undefined }): Data {
  if (error !== undefined) throw error;
  if (data === undefined || data === null) throw new Error('neither data nor error');
  return data;
}

test('Apollo Client walks from the set-up link to an accepted invitation, through a broken network', { timeout: 60_000 }, () =>
  walk((session, socket) => {
    const client = createApollo(session, socket);
    return {
      query: async (query, variables) => read(await client.query({ query, variables: variables as OperationVariables })),
      mutate: async (mutation, variables) =>
        read(await client.mutate({ mutation, variables: variables as OperationVariables })),
      watch: (query, variables, next) => {
        const events = client.subscribe({ query, variables: variables as OperationVariables });
        const subscription = events.subscribe((result) => next(read(result)));
        return () => subscription.unsubscribe();
      },
    };
  }));

import test from 'node:test';
import type { AnyVariables, OperationResult } from '@urql/core';
import { createUrql } from './urql.js';
import { walk } from './walk.js';

function read<Data>({ data, error }: OperationResult<Data>): Data {
  if (error !== undefined) throw error;
  if (data === undefined) throw new Error('neither data nor error');
  return data;
}

test('urql walks from the set-up link to an accepted invitation, through a broken network', { timeout: 60_000 }, () =>
  walk((session, socket) => {
    const client = createUrql(session, socket);
    return {
      query: async (document, variables) => read(await client.query(document, variables as AnyVariables)),
      mutate: async (document, variables) => read(await client.mutation(document, variables as AnyVariables)),
      watch: (document, variables, next) =>
        client.subscription(document, variables as AnyVariables).subscribe((result) => next(read(result))).unsubscribe,
    };
  }));

// How the page talks to the server: queries and mutations over HTTP, subscriptions over one
// graphql-transport-ws socket. Both carry what the headers pane says.
import type { Fetcher, FetcherParams, Observable } from "@graphiql/toolkit";
import {
  type DocumentNode,
  type ExecutionResult,
  Kind,
  OperationTypeNode,
  parse,
  separateOperations,
} from "graphql";
import { type Client, createClient, type Sink } from "graphql-ws";

type Headers = Record<string, unknown>;

const httpUrl = new URL("/graphql", location.href);
const socketUrl = new URL("/graphql/ws", location.href);
socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";

export const fetcher: Fetcher = (params, options) => {
  const headers = options?.headers ?? {};
  const { query, isSubscription } = chosenOperation(params);
  return (isSubscription ? overSocket : overHttp)({ ...params, query }, headers);
};

/**
 * The document without the operations that were not chosen, so that one that is being written does not fail
 * the one that is run. They become blanks: positions in the server's errors stay those of the editor.
 */
function chosenOperation({ query, operationName }: FetcherParams): { query: string; isSubscription: boolean } {
  let document: DocumentNode;
  try {
    document = parse(query);
  } catch {
    return { query, isSubscription: false }; // The server says what is wrong with it.
  }
  const operations = document.definitions.filter((definition) => definition.kind === Kind.OPERATION_DEFINITION);
  const chosen = operationName ? operations.find(({ name }) => name?.value === operationName) : operations[0];
  const isSubscription = chosen?.operation === OperationTypeNode.SUBSCRIPTION;
  const needed = operationName ? separateOperations(document)[operationName]?.definitions : undefined;
  if (operations.length > 1 && needed !== undefined) {
    for (const { loc } of document.definitions.filter((definition) => !needed.includes(definition))) {
      if (loc !== undefined) {
        const blank = query.slice(loc.start, loc.end).replace(/[^\n]/g, " ");
        query = query.slice(0, loc.start) + blank + query.slice(loc.end);
      }
    }
  }
  return { query, isSubscription };
}

async function overHttp(params: FetcherParams, headers: Headers): Promise<ExecutionResult> {
  const response = await fetch(httpUrl, {
    method: "POST",
    headers: {
      accept: "application/graphql-response+json, application/json",
      "content-type": "application/json",
      ...(headers as Record<string, string>),
    },
    body: JSON.stringify(params),
  }).catch((cause: unknown) => {
    // A header value that no request may carry is the reader's to mend; the browser's text names it.
    throw plainError(`The request was not sent, or not answered: ${cause instanceof Error ? cause.message : cause}`);
  });
  const text = await response.text();
  try {
    return JSON.parse(text) as ExecutionResult;
  } catch {
    const status = `${response.status} ${response.statusText}`.trim();
    throw plainError(`The server answered ${status}, without JSON: ${text.slice(0, 500) || "(nothing)"}`);
  }
}

// A socket is authenticated once, when it opens: other headers need another socket.
let socket: { headers: string; client: Client } | undefined;

function clientFor(headers: Headers): Client {
  const key = JSON.stringify(headers);
  if (socket?.headers !== key) {
    // Subscriptions that still run keep the socket they have; a lazy client closes it after the last.
    socket = {
      headers: key,
      client: createClient({
        url: socketUrl.href,
        connectionParams: headers,
        // Someone is watching: show why the socket closed instead of trying again behind their back.
        retryAttempts: 0,
      }),
    };
  }
  return socket.client;
}

// An observable rather than an async generator: stopping it must not wait for the next event.
function overSocket(params: FetcherParams, headers: Headers): Observable<ExecutionResult> {
  return {
    subscribe(observer: Sink<ExecutionResult>) {
      const unsubscribe = clientFor(headers).subscribe<Record<string, unknown>>(params, {
        next: (result) => observer.next(result as ExecutionResult),
        error: (error) => observer.error(readable(error)),
        complete: () => observer.complete(),
      });
      return { unsubscribe };
    },
  } as Observable<ExecutionResult>;
}

/** What a subscription ended with: GraphQL errors as they came, a closed socket in words. */
function readable(error: unknown): unknown {
  if (error instanceof CloseEvent) {
    const reason = error.reason ? ` (${error.reason})` : "";
    return plainError(`The socket was closed with code ${error.code}${reason}. Run the subscription again to reconnect.`);
  }
  if (error instanceof Event) {
    return plainError(`No socket could be opened to ${socketUrl.href}.`);
  }
  return error;
}

/** An error for the response pane, which would print a stack of this page's own code otherwise. */
function plainError(message: string): Error {
  const error = new Error(message);
  error.stack = undefined;
  return error;
}

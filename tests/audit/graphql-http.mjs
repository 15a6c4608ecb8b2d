// Runs every audit of graphql-http against a server: npm run graphql-http -- http://127.0.0.1:8080/graphql
import { auditServer } from 'graphql-http';

const url = process.argv[2] ?? 'http://127.0.0.1:8080/graphql';
const results = await auditServer({ url });
for (const { status, id, name, reason } of results) {
  if (status !== 'ok') console.log(`${status} ${id} ${name}: ${reason}`);
}
const passed = results.filter(({ status }) => status === 'ok').length;
console.log(`${passed}/${results.length}`);
process.exitCode = passed === results.length ? 0 : 1;

// Whether schema.graphql still serves the clients that were made for the last released one. Which change breaks them
// is for graphql-inspector to say; which of those are meant is in intended.json, each with its reason:
//   [{ "change": "Field 'x' was removed from object type 'Y'", "reason": "why, and what its clients do instead" }]
import { CriticalityLevel, diff } from '@graphql-inspector/core';
import { buildSchema } from 'graphql';
import { readFileSync } from 'node:fs';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const [released = './released.graphql', current = '../../schema.graphql', list = './intended.json'] = process.argv.slice(2);
const intended = JSON.parse(read(list));
const changes = await diff(buildSchema(read(released)), buildSchema(read(current)));
const breaking = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);

const faults = [];
for (const { message, path } of breaking) {
  if (!intended.some(({ change }) => change === message)) faults.push(`breaks clients, and is not in intended.json: ${message} (${path})`);
}
for (const { change, reason } of intended) {
  if (!breaking.some(({ message }) => message === change)) faults.push(`is in intended.json, and no change any more: ${change}`);
  if (typeof reason !== 'string' || reason.trim() === '') faults.push(`is in intended.json without a reason: ${change}`);
}
for (const fault of faults) console.log(fault);
console.log(
  `schema diff: ${changes.length} changes since the release, ${breaking.length} of them breaking, ` +
    `${intended.length} intended, ${faults.length} faults`,
);
process.exitCode = faults.length === 0 ? 0 : 1;

// The comparison can fail: tried on small schemas.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const released = 'type Query { old: Int now: Int }';
const change = "Field 'old' was removed from object type 'Query'";

function compare(current, intended) {
  const directory = mkdtempSync(join(tmpdir(), 'schema-diff-'));
  const files = { 'released.graphql': released, 'current.graphql': current, 'intended.json': JSON.stringify(intended) };
  const paths = Object.entries(files).map(([name, text]) => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return pathToFileURL(path).href;
  });
  const script = fileURLToPath(new URL('schema-diff.mjs', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, [script, ...paths], { encoding: 'utf8' });
  rmSync(directory, { recursive: true });
  return { status, stdout };
}

test('what clients do not notice passes', () => {
  const { status, stdout } = compare(`${released} type More { id: ID }`, []);
  assert.equal(status, 0, stdout);
});

test('what breaks clients fails, unless it is intended', () => {
  const refused = compare('type Query { now: Int }', []);
  assert.equal(refused.status, 1, refused.stdout);
  assert.ok(refused.stdout.includes(change), refused.stdout);
  const allowed = compare('type Query { now: Int }', [{ change, reason: 'nobody asks for it' }]);
  assert.equal(allowed.status, 0, allowed.stdout);
});

test('an intention without a change or a reason fails', () => {
  assert.equal(compare(released, [{ change, reason: 'nobody asks for it' }]).status, 1);
  assert.equal(compare('type Query { now: Int }', [{ change, reason: ' ' }]).status, 1);
});

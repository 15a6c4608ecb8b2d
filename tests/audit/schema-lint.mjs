// The recommended and the Relay rules of graphql-eslint over schema.graphql, and a description for everything.
import plugin from '@graphql-eslint/eslint-plugin';
import { ESLint } from 'eslint';
import { buildSchema, isObjectType } from 'graphql';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const schema = `${root}schema.graphql`;
// What has an id is held to it. The others are values and parts of something that has one: payloads, errors, counts.
const parsed = buildSchema(readFileSync(schema, 'utf8'));
const objects = Object.values(parsed.getTypeMap()).filter(isObjectType);
const values = objects.filter((type) => type.getFields()['id'] === undefined).map(({ name }) => name);
const { 'flat/schema-recommended': recommended, 'flat/schema-relay': relay } = plugin.configs;
const eslint = new ESLint({
  cwd: root,
  overrideConfigFile: true,
  overrideConfig: {
    files: ['schema.graphql'],
    plugins: { '@graphql-eslint': plugin },
    languageOptions: { parser: plugin.parser, parserOptions: { graphQLConfig: { schema } } },
    rules: {
      ...recommended.rules,
      ...relay.rules,
      // An `AuditActor` tells who acted, by the id of somebody else's type, or by none for whoever has no account.
      '@graphql-eslint/strict-id-in-types': ['error', { exceptions: { types: [...values, 'AuditActor'] } }],
      // Its other demands hold. These two are not in Relay's specification: not every list is a connection, such as
      // `userErrors` and `permissions`, which are short and never paged; and what is read in its list alone, such as the
      // entries of a log, is not refetched by its id.
      '@graphql-eslint/relay-edge-types': ['error', { listTypeCanWrapOnlyEdgeType: false, shouldImplementNode: false }],
      '@graphql-eslint/require-description': [
        'error',
        {
          types: true,
          rootField: true,
          DirectiveDefinition: true,
          EnumValueDefinition: true,
          FieldDefinition: true,
          InputValueDefinition: true,
        },
      ],
    },
  },
});
const results = await eslint.lintFiles([schema]);
const messages = results.flatMap(({ messages }) => messages);
for (const { line, ruleId, message } of messages) console.log(`schema.graphql:${line} ${ruleId}: ${message}`);
const types = Object.keys(parsed.getTypeMap()).filter((name) => !name.startsWith('__')).length;
const rules = Object.keys(await eslint.calculateConfigForFile(schema).then(({ rules }) => rules)).length;
console.log(`schema lint: ${messages.length} findings of ${rules} rules in ${types} types`);
process.exitCode = messages.length === 0 && results.length === 1 ? 0 : 1;

import type { CodegenConfig } from '@graphql-codegen/cli';

// Types of the operations alone, and documents that carry them: what urql and Apollo Client both take.
const config: CodegenConfig = {
  schema: '../../../schema.graphql',
  documents: '../walk.graphql',
  generates: {
    'src/generated.ts': {
      plugins: ['typescript-operations', 'typed-document-node'],
      config: {
        scalars: { Date: 'string', DateTime: 'string', Decimal: 'number | string', ID: 'string', JSON: 'unknown', SafeInt: 'number' },
        strictScalars: true,
        enumsAsTypes: true,
        useTypeImports: true,
      },
    },
  },
};
export default config;

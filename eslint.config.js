import tseslint from 'typescript-eslint';
import { comments } from './scripts/eslint-comments.mjs';

const deadline = {
  object: 'AbortSignal',
  property: 'timeout',
  message: 'It can be collected before it fires: base/deadline.ts.',
};
/** A write to one of Node's streams that fails ends the process. */
const output = ['stdout', 'stderr'].map((property) => ({
  object: 'process',
  property,
  message: 'Write through CliIo (cli/ui/io.ts), or give a Logger what you have to say.',
}));

/** Code that decides by an error's text breaks when the text is worded better. */
const byMessage = [
  'CallExpression[callee.property.name=/^(includes|match|startsWith|endsWith|search|indexOf)$/]' +
    '[callee.object.property.name="message"]',
  'CallExpression[callee.property.name=/^(includes|match|startsWith|endsWith|search|indexOf)$/]' +
    '[callee.object.callee.name="messageOf"]',
  'CallExpression[callee.property.name=/^(test|exec)$/] > MemberExpression.arguments[property.name="message"]',
  'CallExpression[callee.property.name=/^(test|exec)$/] > CallExpression.arguments[callee.name="messageOf"]',
].map((selector) => ({ selector, message: "Decide by the error's kind or code, not by its message." }));

const systemCalls = {
  selector: 'Literal[value=/^(koffi|FARBUS_NO_KOFFI)$/]',
  message: 'System calls belong to src/linux, which alone loads koffi (linux/koffi.node.ts).',
};

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/'] },
  ...tseslint.configs.recommended,
  { plugins: { farbus: { rules: { comments } } }, rules: { 'farbus/comments': 'error' } },
  {
    files: ['src/**/*.ts', 'src/**/*.tsx', 'tests/**/*.ts', 'bench/**/*.ts'],
    languageOptions: { parserOptions: { project: './tsconfig.check.json' } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-properties': ['error', deadline],
    },
  },
  {
    files: ['src/**/*.ts', 'src/**/*.tsx'],
    ignores: ['src/cli/ui/output.ts'],
    rules: {
      'no-restricted-properties': ['error', deadline, ...output],
    },
  },
  // A later entry replaces the rule of an earlier one: each has all that holds for its files.
  {
    files: ['src/**/*.ts', 'src/**/*.tsx'],
    rules: { 'no-restricted-syntax': ['error', ...byMessage, systemCalls], 'max-lines': ['error', 400] },
  },
  { files: ['src/linux/**'], rules: { 'no-restricted-syntax': ['error', ...byMessage] } },
  { files: ['scripts/**', 'bench/**', 'tests/**'], rules: { 'no-console': 'off' } },
);

/**
 * The recipe of ARCHITECTURE.md for a filter: one file, and one line in app/filters.ts. With these
 * two, the conformance suite passes, and commands, texts of sources, files of settings, help and
 * completion know the filter.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import typescript from 'typescript';
import { beforeAll, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/storage/memory.js';
import { InvertFilter } from '../support/invert-filter.js';
import { tempFolder } from '../support/temp.js';
import { Random } from '../../src/conformance/random.js';
import { conformance } from './suite.js';

const size = 2 << 20;
const root = fileURLToPath(new URL('../..', import.meta.url));

conformance('toy filter', async () => ({
  device: new InvertFilter(new MemoryDevice(new Random(99).bytes(size)), 0xa5),
}));

/** A copy of farbus to which the filter is added. */
const copy = tempFolder();

function compiled(text: string): string {
  const { ScriptTarget, ModuleKind } = typescript;
  const compilerOptions = { target: ScriptTarget.ES2022, module: ModuleKind.ES2022 };
  return typescript.transpileModule(text, { compilerOptions }).outputText;
}

beforeAll(() => {
  for (const part of ['bin', 'dist', 'package.json']) {
    cpSync(join(root, part), join(copy, part), { recursive: true, filter: (path) => !/\.(map|d\.ts)$/.test(path) });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  // The file of the filter, in src/block/filters.
  const filter = readFileSync(join(root, 'tests/support/invert-filter.ts'), 'utf8')
    .replaceAll('../../src/block/filters/', './')
    .replaceAll('../../src/block/', '../')
    .replaceAll('../../src/', '../../');
  writeFileSync(join(copy, 'dist/block/filters/invert.js'), compiled(filter));
  // The line in the list of filters, and its import.
  const list = readFileSync(join(root, 'src/app/filters.ts'), 'utf8');
  const added = list
    .replace(/^import /m, "import { invertFilter } from '../block/filters/invert.js';\nimport ")
    .replace('  rateFilter,\n]', '  rateFilter,\n  invertFilter,\n]');
  expect(added.length).toBeGreaterThan(list.length + 60);
  writeFileSync(join(copy, 'dist/app/filters.js'), compiled(added));
});

function farbus(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(copy, 'bin/farbus.js'), ...args], {
    encoding: 'utf8',
    cwd: copy,
    timeout: 60_000,
  });
  return status === 0 ? stdout : `${status}: ${stderr}`;
}

it('is an option of commands, a word of a source, and a key of a file of settings', () => {
  const image = join(copy, 'disk.img');
  const bytes = new Random(7).bytes(1 << 20);
  writeFileSync(image, bytes);
  const inverted = Buffer.from(bytes.map((byte) => byte ^ 255));
  const word = join(copy, 'word.img');
  expect(farbus('copy', `${image},invert=255`, word, '--quiet')).toBe('');
  expect(readFileSync(word).equals(inverted)).toBe(true);
  expect(farbus('attach', image, '--invert', '255', '--', 'nbdinfo', '--size', '{nbd}')).toBe('1048576\n');
  writeFileSync(join(copy, 'serve.yaml'), `exports: [{ source: ${image}, invert: 300 }]\n`);
  expect(farbus('serve', '--config', 'serve.yaml')).toMatch(
    /^2: farbus: serve\.yaml:1: exports\[0\]\.invert: invert 300: expected 1 to 255\n$/,
  );
  expect(farbus('info', `${image},invrt=1`)).toMatch(/did you mean invert\?/);
});

it('is in help and completion', () => {
  expect(farbus('help', 'filters')).toContain('  --invert MASK        invert these bits of every byte, 1 to 255\n');
  expect(farbus('serve', '--help')).toContain('--invert MASK');
  const script = `${farbus('completion', 'bash')}\nCOMP_WORDS=(farbus attach --inv); COMP_CWORD=2; _farbus; echo $COMPREPLY`;
  expect(execFileSync('bash', ['-c', script], { encoding: 'utf8' })).toBe('--invert\n');
});

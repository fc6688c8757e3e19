/**
 * The subpaths of the package. Those for browsers load neither Node's modules nor an engine; this
 * follows every import of the built files, and loads them where such an import fails.
 *
 * Not here: the packed package (tests/interop/package.test.ts).
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import typescript from 'typescript';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const dist = join(root, 'dist');
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string } | string>>;
};
/** Subpaths that run without Node: all but these two, of which v86 loads its engine. */
const everywhere = Object.entries(exports).flatMap(([name, to]) =>
  typeof to === 'object' && name !== './node' && name !== './v86' ? [join(root, to.default)] : [],
);

/** The files that `file` imports, in the end, and all other modules. */
function imported(file: string, files = new Set<string>(), others = new Set<string>()): typeof others {
  files.add(file);
  for (const { fileName } of typescript.preProcessFile(readFileSync(file, 'utf8')).importedFiles) {
    if (!fileName.startsWith('.')) others.add(`${relative(dist, file)}: ${fileName}`);
    else if (!files.has(join(dirname(file), fileName))) imported(join(dirname(file), fileName), files, others);
  }
  return others;
}

it('each list of exports is a subpath of the package, and the reverse', () => {
  const lists = readdirSync(join(root, 'src/api')).map((name) => `./dist/api/${name.replace(/\.ts$/, '.js')}`);
  const subpaths = Object.values(exports).flatMap((to) => (typeof to === 'object' ? [to.default] : []));
  expect(subpaths.sort()).toEqual(lists.sort());
  for (const to of Object.values(exports)) {
    if (typeof to === 'object') expect(to.types).toBe(to.default.replace(/\.js$/, '.d.ts'));
  }
});

it('the lists name each export', () => {
  for (const name of readdirSync(join(root, 'src/api'))) {
    expect(readFileSync(join(root, 'src/api', name), 'utf8')).not.toMatch(/export \*/);
  }
});

it('the subpaths for browsers import no module of Node, no engine and no package', () => {
  expect(everywhere.length).toBeGreaterThan(4);
  for (const file of everywhere) expect([...imported(file)]).toEqual([]);
});

it('farbus/v86 imports v86, and nothing else from outside', () => {
  expect([...imported(join(dist, 'api/v86.js'))]).toEqual(['machine/engines/v86/create.js: v86']);
});

it('the subpaths for browsers load where every import of a module from outside fails', () => {
  const hook = `
    export const resolve = (specifier, context, next) => {
      if (context.parentURL?.includes('/dist/') && !specifier.startsWith('.')) throw new Error('no ' + specifier);
      return next(specifier, context);
    };`;
  const program = `
    import { register } from 'node:module';
    register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hook)}));
    for (const file of ${JSON.stringify([...everywhere, join(dist, 'api/node.js')].map((file) => pathToFileURL(file)))}) {
      console.log(await import(file).then((module) => Object.keys(module).length > 0, (error) => error.message));
    }`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  const [last, ...others] = stdout.trim().split('\n').reverse();
  expect(stderr).toBe('');
  expect(others).toEqual(everywhere.map(() => 'true'));
  expect(last).toMatch(/^no node:/);
});

/**
 * The packed package as a dependency: installed in an empty folder, its types checked as strictly
 * as can be, run in Node, and bundled for browsers.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import typescript from 'typescript';
import { build, type Rolldown } from 'vite';
import { beforeAll, expect, it } from 'vitest';
import { folderWithPackage } from '../support/package.js';

const tsc = createRequire(import.meta.url).resolve('typescript/lib/tsc.js');
let folder: string;

beforeAll(() => {
  folder = folderWithPackage();
});

/** Uses each subpath, with arrays and Buffers as bytes. */
const consumer = `
import { BlockBase, MemoryDevice, SliceFilter, type BlockDevice, type Buffers } from 'farbus';
import { AoeTarget, connectAoe } from 'farbus/aoe';
import { ClientComputer, type ComputerOptions } from 'farbus/computer';
import { Hub, type Segment } from 'farbus/ethernet';
import { openHttp, type FetchHttpOptions } from 'farbus/http';
import { Exports, NbdServer, parseNbdUri, type NbdOptions } from 'farbus/nbd';
import { createV86, type V86Options } from 'farbus/v86';

export class Own extends BlockBase {
  readonly info = new MemoryDevice(512).info;
  protected doRead(_offset: number, into: Buffers): Promise<void> {
    into.zero(0, into.length);
    return Promise.resolve();
  }
  protected doWrite(): Promise<void> {
    return Promise.resolve();
  }
  protected doFlush(): Promise<void> {
    return Promise.resolve();
  }
  protected doClose(): Promise<void> {
    return Promise.resolve();
  }
}

export async function run(): Promise<string> {
  const segment: Segment = new Hub();
  const device: BlockDevice = new SliceFilter(new MemoryDevice(1 << 20), 512, 1 << 19);
  const target = new AoeTarget(segment, device, { shelf: 1, slot: 0 });
  const disk = await connectAoe(segment, { shelf: 1, slot: 0 });
  await disk.write(512, new Uint8Array(512).fill(7));
  const sector = new Uint8Array(512);
  await disk.read(512, sector);
  await disk.close();
  await target.close();
  await segment.close();
  const server = new NbdServer(new Exports(), { log: () => undefined });
  await server.drain();
  const address = parseNbdUri('nbd://localhost/disk');
  return \`\${sector[511]} \${address.exportName}\`;
}

export const types: [NbdOptions?, V86Options?, ComputerOptions?, FetchHttpOptions?] = [];
export const openers = [openHttp];
export const computers = [ClientComputer, createV86];
`;

const program = `
import { openPath } from 'farbus/node';
import { run } from './consumer.ts';
const disk = await openPath('package.json', { readOnly: true });
console.log(await run(), disk.info.readOnly);
await disk.close();
`;

function check(resolution: 'node16' | 'bundler', types: readonly string[], ...files: readonly string[]): string {
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    target: 'ES2022',
    lib: ['ES2023', 'DOM'],
    module: resolution === 'node16' ? 'node16' : 'preserve',
    moduleResolution: resolution,
    skipLibCheck: false,
    allowImportingTsExtensions: true,
    types,
    noEmit: true,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  return spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8', cwd: folder }).stdout;
}

it('has types that a strict compiler accepts, for Node and for bundlers', () => {
  writeFileSync(join(folder, 'consumer.ts'), consumer);
  writeFileSync(join(folder, 'program.ts'), program);
  expect(check('node16', ['node'], 'consumer.ts', 'program.ts')).toBe('');
  // Nothing but farbus/node needs the types of Node.
  expect(check('bundler', [], 'consumer.ts')).toBe('');
});

it('runs in Node, and gives out nothing but its subpaths', () => {
  for (const [name, text] of [
    ['consumer', consumer],
    ['program', program],
  ] as const) {
    const compilerOptions = { target: typescript.ScriptTarget.ES2022, module: typescript.ModuleKind.ES2022 };
    const { outputText } = typescript.transpileModule(text.replace('.ts', '.js'), { compilerOptions });
    writeFileSync(join(folder, `${name}.js`), outputText);
  }
  const run = (...args: string[]): ReturnType<typeof spawnSync> =>
    spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  expect(run('program.js')).toMatchObject({ stdout: '7 disk true\n', stderr: '', status: 0 });
  const inner = run('--input-type=module', '-e', "await import('farbus/dist/block/base.js')");
  expect(inner.stderr).toContain('ERR_PACKAGE_PATH_NOT_EXPORTED');
});

/** Bundles a module for browsers. */
async function bundle(text: string): Promise<Rolldown.OutputChunk[]> {
  const entry = join(folder, 'entry.js');
  writeFileSync(entry, text);
  const result = (await build({
    root: folder,
    configFile: false,
    logLevel: 'silent',
    build: { write: false, minify: false, lib: { entry, formats: ['iife'], name: 'bundled' } },
  })) as Rolldown.RolldownOutput[];
  return result.flatMap(({ output }) => output).filter((one): one is Rolldown.OutputChunk => one.type === 'chunk');
}

it('bundles for browsers, without Node and without an engine', async () => {
  const chunks = await bundle(`
    export * as farbus from 'farbus';
    export * as nbd from 'farbus/nbd';
    export * as aoe from 'farbus/aoe';
    export * as ethernet from 'farbus/ethernet';
    export * as http from 'farbus/http';
    export * as computer from 'farbus/computer';
  `);
  const modules = chunks.flatMap(({ moduleIds }) => moduleIds);
  expect(modules.length).toBeGreaterThan(100);
  const inside = (id: string): boolean => id.includes('/farbus/dist/') || id.endsWith('/entry.js');
  // A module of Node would be Vite's empty "__vite-browser-external" or an import that is left.
  expect(modules.filter((id) => !inside(id) && !id.startsWith('\0rolldown/'))).toEqual([]);
  expect(modules.filter((id) => /\.node\.js$|\/engines\//.test(id))).toEqual([]);
  expect(chunks.flatMap(({ imports, dynamicImports }) => [...imports, ...dynamicImports])).toEqual([]);
  // Only what browsers have too.
  const globals = { TextEncoder, TextDecoder, AbortController, AbortSignal, crypto, performance, setTimeout, clearTimeout, queueMicrotask, MessageChannel }; // prettier-ignore
  const bundled = runInNewContext(`${chunks[0]!.code}; bundled`, { ...globals, DOMException }) as {
    farbus: typeof import('../../src/api/index.js');
  };
  const disk = new bundled.farbus.MemoryDevice(4096);
  await disk.write(0, new Uint8Array(512).fill(3));
  const sector = new Uint8Array(512);
  await disk.read(0, sector);
  expect(sector[0]).toBe(3);
});

it('leaves out what a program does not use', async () => {
  const [chunk] = await bundle("export { MemoryDevice } from 'farbus'");
  expect(chunk!.code.length).toBeLessThan(60_000);
});

it('says what it is to registries and bundlers', () => {
  const manifest = JSON.parse(readFileSync(join(folder, 'node_modules/farbus/package.json'), 'utf8')) as object;
  expect(manifest).toMatchObject({ sideEffects: false, license: 'Apache-2.0', repository: { type: 'git' } });
  expect((manifest as { keywords: string[] }).keywords).toContain('nbd');
});

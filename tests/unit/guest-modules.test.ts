import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readModuleInfo } from '../../src/guest/modinfo.js';
import { ModuleIndex, aliasTable } from '../../src/guest/modules.js';
import type { ModuleFile } from '../../src/guest/modules.js';
import { elfModule } from './guest-elf.js';

function module(name: string, facts: Partial<ModuleFile> = {}): ModuleFile {
  return { name, path: `kernel/${name}.ko`, depends: [], before: [], aliases: [], ...facts };
}

function names(files: readonly ModuleFile[]): string[] {
  return files.map((file) => file.name);
}

describe('readModuleInfo', () => {
  test.each([false, true])("reads a module's description (64-bit: %s)", (wide) => {
    const facts = ['license=GPL', 'depends=crc-t10dif,jbd2', 'alias=fs-ext4', 'alias=ext3', 'name=ext4'];
    const soft = 'softdep=pre: crypto-crc32c other post: later';
    expect(readModuleInfo(elfModule([...facts, soft], wide), 'file')).toEqual({
      name: 'ext4',
      depends: ['crc_t10dif', 'jbd2'],
      before: ['crypto-crc32c', 'other'],
      aliases: ['fs-ext4', 'ext3'],
    });
  });

  test('is empty if the module has no description', () => {
    const nothing = { name: 'some_file', depends: [], before: [], aliases: [] };
    expect(readModuleInfo(elfModule(['depends='], false), 'some-file')).toEqual(nothing);
    expect(readModuleInfo(elfModule(['softdep=post: later']), 'some-file')).toEqual(nothing);
  });

  test('refuses files that are not modules with an error of ours', () => {
    const good = elfModule(['depends=a,b', 'name=x']);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.nat(good.length),
        (changes, length) => {
          const file = good.slice();
          for (const [at, value] of changes) file[at] = value;
          try {
            readModuleInfo(file.subarray(0, length), 'x');
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(() => readModuleInfo(Buffer.alloc(100), 'x')).toThrow('not a little-endian ELF file');
  });
});

describe('ModuleIndex', () => {
  /** The NVMe modules of Debian's kernel 6.1, with their real `.modinfo` facts. */
  const kernel = new ModuleIndex(
    [
      module('nvme', { depends: ['nvme_core'] }),
      module('nvme_core', { depends: ['t10_pi'] }),
      module('t10_pi', { depends: ['crc_t10dif', 'crc64_rocksoft'] }),
      module('crc64_rocksoft', { depends: ['crc64'], before: ['crc64'] }),
      module('crc64'),
      module('crc_t10dif', { depends: ['crct10dif_common'], before: ['crct10dif'] }),
      module('crct10dif_common'),
      module('crct10dif_generic', { depends: ['crct10dif_common'], aliases: ['crypto-crct10dif', 'crct10dif'] }),
      module('crct10dif_aaa', { aliases: ['crct10dif'] }),
      module('ext4', { depends: ['crc16'], before: ['crypto-crc32c', 'crypto-absent'], aliases: ['fs-ext4'] }),
      module('crc16'),
      module('crc32c_generic', { aliases: ['crypto-crc32c', 'crc32c-generic'] }),
      module('loose', { depends: ['lost'] }),
      module('hen', { depends: ['egg'] }),
      module('egg', { depends: ['hen'] }),
    ],
    ['nls-base'],
  );

  test('loads each after its dependencies, soft ones by their aliases, none twice', () => {
    expect(names(kernel.loadOrder(['nvme', 'ext4', 'crc16', 'nvme']))).toEqual([
      'crct10dif_common',
      'crct10dif_generic',
      'crc_t10dif',
      'crc64',
      'crc64_rocksoft',
      't10_pi',
      'nvme_core',
      'nvme',
      'crc32c_generic',
      'crc16',
      'ext4',
    ]);
  });

  test('treats "-" as "_", resolves aliases, and skips built-in modules', () => {
    expect(names(kernel.loadOrder(['nls_base', 'crc64-rocksoft', 'fs-ext4'])).at(-1)).toBe('ext4');
    expect(names(kernel.loadOrder(['nls-base']))).toEqual([]);
  });

  test('names a missing module and the module that needs it', () => {
    expect(() => kernel.loadOrder(['absent'])).toThrow('the kernel has no module absent');
    expect(() => kernel.loadOrder(['loose'])).toThrow('the kernel has no module lost, which loose needs');
    expect(() => kernel.loadOrder(['hen'])).toThrow('modules need each other: hen, egg, hen');
  });

  test('any modules without circles come in a loadable order', () => {
    const graph = fc.array(fc.array(fc.nat(30), { maxLength: 4 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(graph, (needs) => {
        // Each module needs only earlier ones, but the list is shuffled.
        const files = needs.map((list, at) =>
          module(`m${at}`, { depends: list.filter((other) => other < at).map((other) => `m${other}`) }),
        );
        const loaded = new Set<string>();
        for (const file of new ModuleIndex(files, []).loadOrder(names(files).reverse())) {
          for (const needed of file.depends) expect(loaded).toContain(needed);
          loaded.add(file.name);
        }
        expect(loaded.size).toBe(files.length);
      }),
    );
  });

  test('writes the tables that modprobe reads, first dependency last', () => {
    const files = kernel.loadOrder(['crc_t10dif']);
    expect(kernel.dependencyTable(files)).toBe(
      [
        'kernel/crct10dif_common.ko:',
        'kernel/crct10dif_generic.ko: kernel/crct10dif_common.ko',
        'kernel/crc_t10dif.ko: kernel/crct10dif_generic.ko kernel/crct10dif_common.ko',
        '',
      ].join('\n'),
    );
    expect(aliasTable([module('x', { aliases: ['fs-x', 'pci:v*', 'x y'] })])).toBe('alias fs-x x\n');
  });
});

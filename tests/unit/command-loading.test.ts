/** The modules that a command loads at its start: they decide how soon it answers. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const commands = join(import.meta.dirname, '../../src/cli/commands');

/** Imports and exports that load a module: no types, and no import() of a function. */
const statement = /^(?:import|export)\s+(?!type\b)(?:[^;'"]*?\sfrom\s*)?'([^']+)'/gm;

/** The files, and the packages' names, that loading `entry` loads. */
function loadedBy(entry: string): Set<string> {
  const loaded = new Set([entry]);
  for (const file of loaded) {
    if (!existsSync(file)) continue;
    for (const [, from] of readFileSync(file, 'utf8').matchAll(statement)) {
      loaded.add(from!.startsWith('.') ? join(dirname(file), from!).replace(/\.js$/, '.ts') : from!);
    }
  }
  return loaded;
}

describe('a command loads at its start', () => {
  it.each(['serve', 'info', 'copy', 'attach'])('%s: neither the engine nor readers of configuration files', (name) => {
    const loaded = [...loadedBy(join(commands, `${name}.ts`))];
    expect(loaded.length).toBeGreaterThan(100);
    expect(
      loaded.filter((file) => /src\/(machine\/engines|guest|web\/server\/server)\b|^(yaml|ws|undici)$/.test(file)),
    ).toEqual([]);
  });

  it.each(['ps', 'status', 'stop', 'exec', 'console', 'logs', 'lease', 'down', 'type', 'screenshot'])(
    '%s: no disk and no protocol',
    (name) => {
      const loaded = [...loadedBy(join(commands, `${name}.ts`))];
      expect(loaded.length).toBeGreaterThan(20);
      expect(loaded.filter((file) => /src\/(machine\/engines|device|guest|block|protocol)\//.test(file))).toEqual([]);
    },
  );

  it('run: the engine, so the search of these tests finds it', () => {
    expect([...loadedBy(join(commands, 'run.ts'))].some((file) => file.includes('src/machine/engines/'))).toBe(true);
  });
});

/** `farbus version`: prints the versions of farbus and of the programs on which it stands. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { release } from 'node:os';
import { join } from 'node:path';
import { jsonLine } from '../../base/printable.js';
import { koffi } from '../../linux/koffi.node.js';
import { defineCommand } from '../command.js';
import { probeKvm } from '../../machine/engines/kvm/probe.node.js';
import { noOperands } from '../options.js';
import type { Given, Options } from '../table.js';
import type { CliIo } from '../ui/io.js';
import { farbusVersion } from '../version.js';

const options = { json: { about: 'print JSON' } } as const satisfies Options;

export const command = defineCommand({
  name: 'version',
  summary: 'print the versions of farbus and of what it runs on',
  usage: ['[--json]'],
  about: `
    Prints the version of farbus, and for a report of a fault those of Node, of the v86 engine, of koffi (system calls;
    optional) and of the operating system, and whether KVM can be used here, or why not. farbus --version prints the first line alone.`,
  options,
  examples: ['farbus version', 'farbus version --json'],
  pages: ['commands'],
  operands: [],
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  noOperands('version', operands);
  const farbus = farbusVersion();
  const engine = { name: 'v86', version: packageVersion('v86') };
  const native = koffi()?.version ?? null;
  const platform = { system: process.platform, release: release(), processor: process.arch };
  const state = probeKvm();
  const kvm = state === true ? { usable: true } : { usable: false, why: state };
  if (values.json)
    io.stdout.write(jsonLine({ farbus, node: process.versions.node, engine, koffi: native, kvm, platform }));
  else {
    io.stdout.write(
      `farbus ${farbus}\nnode ${process.versions.node}\n${engine.name} ${engine.version ?? 'missing'}\n` +
        `koffi ${native ?? 'not available'}\nkvm ${state === true ? 'usable' : `not usable: ${state}`}\n${platform.system} ${platform.release} ${platform.processor}\n`,
    );
  }
  return 0;
}

/** The version of an installed package; null if it is not installed. */
function packageVersion(name: string): string | null {
  // The package's "exports" may hide its package.json from `require`, so look for the file.
  for (const folder of createRequire(import.meta.url).resolve.paths(name) ?? []) {
    try {
      const text = readFileSync(join(folder, name, 'package.json'), 'utf8');
      return (JSON.parse(text) as { version: string }).version;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

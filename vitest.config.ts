import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig } from 'vitest/config';
import { LongestFirst } from './tests/support/longest-first.js';
import { testSet } from './tests/support/test-sets.js';

/**
 * Files that use what exists once on a machine, here the user's ~/.rhosts and both processors. They
 * run after the others, one at a time.
 */
const alone = ['tests/interop/rsh.test.ts', 'tests/boot/kvm-long.test.ts', 'tests/boot/kvm-uefi.test.ts'];
const { include, exclude } = testSet(fileURLToPath(new URL('.', import.meta.url)));

export default defineConfig({
  test: {
    globalSetup: ['tests/support/global-setup.ts'],
    setupFiles: ['tests/support/blocked-loop.ts', 'tests/support/guarded-kill.ts', 'tests/support/own-folders.ts'],
    // Real peers and guests share two cores with the tests: a limit that only a hang reaches.
    testTimeout: 150_000,
    hookTimeout: 240_000,
    pool: 'forks',
    // Each file has its own folders, ports, namespaces and loop devices. Half of the time is spent
    // waiting for peers, so three workers keep two cores busy.
    maxWorkers: 3,
    reporters: ['default'],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'tests',
          include,
          exclude: [...configDefaults.exclude, ...exclude, ...alone],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: alone.filter(
            (file) => include.some((pattern) => pattern.includes('*') || pattern === file) && !exclude.includes(file),
          ),
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});

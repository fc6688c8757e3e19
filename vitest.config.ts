import { configDefaults, defineConfig } from 'vitest/config';

/** Files that use what there is once on a machine, here the user's ~/.rhosts. They run after the others, one at a time. */
const alone = ['tests/interop/rsh.test.ts'];

export default defineConfig({
  test: {
    globalSetup: ['tests/support/global-setup.ts'],
    setupFiles: ['tests/support/own-folders.ts'],
    // Real peers and guests share two cores with the tests: a limit that only a hang reaches.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Each file has its own folders, ports, namespaces and loop devices. Half of the time is spent waiting for peers.
    maxWorkers: 2,
    reporters: ['default'],
    projects: [
      {
        extends: true,
        test: {
          name: 'tests',
          include: ['tests/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...alone],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: alone, fileParallelism: false, sequence: { groupOrder: 1 } },
      },
    ],
  },
});

import { configDefaults, defineConfig } from 'vitest/config';

/** They use the user's ~/.rhosts, which exists once, so they run after the others, one by one. */
const alone = ['tests/interop/rsh.test.ts'];

export default defineConfig({
  test: {
    globalSetup: ['tests/support/global-setup.ts'],
    setupFiles: ['tests/support/own-folders.ts'],
    // Real peers and guests share two cores with the tests: a limit that only a hang reaches.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Files share no folders, ports, namespaces or loop devices, and spend half their time waiting
    // for peers.
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

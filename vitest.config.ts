import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    globalSetup: ['tests/support/global-setup.ts'],
    // Real peers and guests share two cores with the tests: a limit that only a hang reaches.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Peers, guests and what there is once on a machine (loop devices, a user's .rhosts) are not shared.
    fileParallelism: false,
    reporters: ['default'],
  },
});

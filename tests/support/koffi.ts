/**
 * Tests that need koffi, an optional dependency. Without it they are skipped with a warning; in CI
 * that is an error.
 */
import { test } from 'vitest';
import { koffi } from '../../src/linux/koffi.node.js';

/** True if koffi works. */
export const hasKoffi = koffi() !== undefined;

/** `test`, if koffi works; else a skipped test. */
export function testWithKoffi(name: string, run: () => Promise<void>): void {
  if (hasKoffi) {
    test(name, run);
  } else if (process.env['CI']) {
    test(name, () => {
      throw new Error('koffi is not installed: in CI it has to be');
    });
  } else {
    console.error(`SKIPPED: ${name}: needs koffi`);
    test.skip(`${name} (needs koffi)`, run);
  }
}

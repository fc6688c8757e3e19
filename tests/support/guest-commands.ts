import { expect } from 'vitest';
import type { Computer } from '../../src/computer/computer.js';

/** Returns a function that runs a command in the guest, which must succeed within `limitMs`. */
export function runner(computer: Computer, limitMs = 100_000) {
  return async (command: string): Promise<string> => {
    const { output, status } = await computer.console.run(command, limitMs);
    expect(status, `${command}: ${output}`).toBe(0);
    return output;
  };
}

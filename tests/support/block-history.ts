/**
 * The contents that blocks may have after a crash: the flushed content, or any content written
 * since.
 */
import { expect } from 'vitest';

/** A block whose every word contains the number `stamp`; 0 means zeroes. */
export function stamped(stamp: number, length = 512): Uint8Array {
  const words = new Uint32Array(length / 4).fill(stamp);
  return new Uint8Array(words.buffer);
}

export function stampOf(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.slice().buffer);
  if (words.some((word) => word !== words[0])) expect.fail(`a block is torn: ${words.join(' ')}`);
  return words[0]!;
}

/** A change of a block. */
export interface Change {
  /** 'any' for a trim, after which the content is undefined. */
  readonly stamp: number | 'any';
  /** True if the change was acknowledged. */
  acknowledged: boolean;
}

/** The contents that each block may have: its flushed content first, then every change since. */
export class History {
  readonly blocks: Change[][];

  constructor(stamps: readonly number[]) {
    this.blocks = stamps.map((stamp) => [{ stamp, acknowledged: true }]);
  }

  begin(first: number, stamps: readonly (number | 'any')[]): Change[] {
    return stamps.map((stamp, index) => {
      const change: Change = { stamp, acknowledged: false };
      this.blocks[first + index]!.push(change);
      return change;
    });
  }

  /**
   * For each block: the change that will be the oldest possible content if a flush begins now and
   * succeeds.
   */
  flushPoint(): (Change | undefined)[] {
    return this.blocks.map((changes) => changes.findLast(({ acknowledged }) => acknowledged));
  }

  /** A flush that began at `point` was acknowledged. */
  flushed(point: readonly (Change | undefined)[]): void {
    for (const [index, change] of point.entries()) {
      const changes = this.blocks[index]!;
      const at = change ? changes.indexOf(change) : -1;
      if (at > 0) changes.splice(0, at);
    }
  }

  check(index: number, stamp: number, what: string): void {
    const allowed = this.blocks[index]!.map((change) => change.stamp);
    if (allowed.includes('any') || allowed.includes(stamp)) return;
    expect.fail(`${what}: block ${index} holds ${stamp}, allowed are ${allowed.join(', ')}`);
  }
}

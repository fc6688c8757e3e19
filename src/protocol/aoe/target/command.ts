/** A command of an initiator while it is executed, and its result as it is remembered. */
import type { AtaRequest } from '../wire.js';
import { AtaArgument } from '../spec.js';
import type { Plan, Result } from './disk.js';
import type { TargetSession } from './sessions.js';

/** Who sent a request, and what it says. */
export interface Sender {
  /** The initiator's address, as a key. */
  readonly mac: number;
  readonly ata: AtaRequest;
  /** Undefined: the initiator has none. */
  readonly session: TargetSession | undefined;
}

/** What an initiator wants, as it was understood. */
export interface Order extends Sender {
  readonly plan: Plan;
}

/** A command that is being executed. */
export interface Command extends Order {
  /** Begins as the request does, with room for data behind it. */
  readonly frame: Uint8Array;
}

/** Where a command's data are, or go. */
export function dataOf({ frame, plan }: Command): Uint8Array {
  return frame.subarray(AtaArgument.size, AtaArgument.size + plan.length);
}

/** Whether `next` goes on where `last` ends, in the same direction. */
export function continues({ plan: last }: Command, { plan: next }: Command): boolean {
  if (last.kind !== next.kind || (last.kind !== 'read' && last.kind !== 'write')) return false;
  return last.fua === next.fua && last.offset + last.length === next.offset;
}

/** Whether a second execution could do harm. */
export function changesSomething({ kind }: Plan): boolean {
  return kind === 'write' || kind === 'flush' || kind === 'other';
}

/** What tells commands with one tag apart: command, feature, count. */
export function kindOf(ata: AtaRequest): number {
  return (ata.command << 16) | (ata.feature << 8) | ata.count;
}

/** A result in 32 bits; {@link unpack} is the other way. */
export function pack({ aoeError, status, error, count }: Result): number {
  return ((aoeError << 24) | (status << 16) | (error << 8) | count) >>> 0;
}

export function unpack(packed: number): Result {
  return {
    aoeError: packed >>> 24,
    status: (packed >>> 16) & 0xff,
    error: (packed >>> 8) & 0xff,
    count: packed & 0xff,
  };
}

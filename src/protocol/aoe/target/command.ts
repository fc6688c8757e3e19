/**
 * A command that the target executes, and its result packed into 32 bits for the memory of tags.
 */
import type { AtaRequest } from '../wire.js';
import { AtaArgument } from '../spec.js';
import type { Plan, Result } from './disk.js';
import type { TargetSession } from './sessions.js';

/** An ATA request and its sender. */
export interface Sender {
  /** MAC address of the initiator, as a `macKey`. */
  readonly mac: number;
  readonly ata: AtaRequest;
  /** Undefined if the request is outside of a Farbus session. */
  readonly session: TargetSession | undefined;
}

/** A request that has been parsed and accepted. */
export interface Order extends Sender {
  readonly plan: Plan;
}

/** A command in flight. */
export interface TargetCommand extends Order {
  /** Copy of the request's header and ATA argument, with room for data behind them. */
  readonly frame: Uint8Array;
}

/** The data part of the command's frame. */
export function dataOf({ frame, plan }: TargetCommand): Uint8Array {
  return frame.subarray(AtaArgument.size, AtaArgument.size + plan.length);
}

/** True if `next` continues the read or write `last` at the byte where it ends. */
export function continues({ plan: last }: TargetCommand, { plan: next }: TargetCommand): boolean {
  if (last.kind !== next.kind || (last.kind !== 'read' && last.kind !== 'write')) return false;
  return last.fua === next.fua && last.offset + last.length === next.offset;
}

/** True if executing the command twice could do harm. */
export function changesSomething({ kind }: Plan): boolean {
  return kind === 'write' || kind === 'flush' || kind === 'other';
}

/** Key that differs between two different commands with the same tag: command, feature, count. */
export function kindOf(ata: AtaRequest): number {
  return (ata.command << 16) | (ata.feature << 8) | ata.count;
}

/** Packs a result into 32 bits; {@link unpack} reverses it. */
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

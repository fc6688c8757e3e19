/** Parses the name of an AoE target: `aoe:SHELF.SLOT@SEGMENT`. */
import { usageError } from '../../base/errors.js';
import { anyShelf, anySlot } from './spec.js';

/** A target and the segment that it is on. */
export interface AoeAddress {
  /** The shelf, 0 to 65534. */
  readonly shelf: number;
  /** The slot, 0 to 254. */
  readonly slot: number;
  /** Name of the segment (network/ethernet). */
  readonly segment: string;
}

/** The segment of `aoe:@SEGMENT`, which means all targets on it; undefined for any other text. */
export function aoeSegment(text: string): string | undefined {
  return /^aoe:@(.+)$/s.exec(text)?.[1];
}

/** @throws FarbusError if the text is no such name */
export function parseAoe(text: string): AoeAddress {
  const match = /^aoe:(\d{1,5})\.(\d{1,3})@(.+)$/s.exec(text);
  const [shelf, slot] = [Number(match?.[1]), Number(match?.[2])];
  if (!match || !(shelf < anyShelf) || !(slot < anySlot)) {
    throw usageError(
      `${text}: write aoe:SHELF.SLOT@SEGMENT, for example aoe:1.0@eth0; a shelf is 0-65534, a slot 0-254`,
    );
  }
  return { shelf, slot, segment: match[3]! };
}

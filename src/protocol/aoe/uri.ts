/** How a target is named: `aoe:SHELF.SLOT@SEGMENT`. */
import { usageError } from '../../base/errors.js';
import { anyShelf, anySlot } from './spec.js';

export interface AoeAddress {
  readonly shelf: number;
  readonly slot: number;
  /** As the segments of network/ethernet are named. */
  readonly segment: string;
}

/** @throws FarbusError One line that says what is wrong with it. */
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

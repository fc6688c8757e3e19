/**
 * Which AoE frames belong to the hypervisor if it shares a network adapter with an operating
 * system ([AoE] 2).
 *
 * A target claims requests to its shelf and slot and to all targets; an initiator claims responses
 * of its target. Broadcast and multicast AoE frames that are not claimed are discovery between
 * hypervisors: the operating system does not see them. All other AoE frames go to the operating
 * system.
 */
import { getU16 } from '../../base/big-endian.js';
import { isGroup } from '../../network/ethernet/mac.js';
import type { FrameClaim } from '../../network/ethernet/claim.js';
import { anyShelf, anySlot, Flag, Header } from './spec.js';
import { flagsOf, isAoe, tagOf } from './wire.js';

/** The claim of the target `shelf`.`slot` on this computer. */
export function targetClaim(shelf: number, slot: number): FrameClaim {
  return claim(`AoE target ${shelf}.${slot}`, (frame, response) => {
    if (response) return false;
    const [toShelf, toSlot] = [getU16(frame, Header.shelf), frame[Header.slot]];
    return (toShelf === shelf || toShelf === anyShelf) && (toSlot === slot || toSlot === anySlot);
  });
}

/** The claim of an initiator on this computer that uses the target `shelf`.`slot`. */
export function initiatorClaim(shelf: number, slot: number): FrameClaim {
  return claim(`AoE initiator of ${shelf}.${slot}`, (frame, response) => {
    return response && getU16(frame, Header.shelf) === shelf && frame[Header.slot] === slot;
  });
}

function claim(name: string, owns: (frame: Uint8Array, response: boolean) => boolean): FrameClaim {
  return {
    name,
    incoming: (frame) => {
      if (!isAoe(frame)) return 'other';
      if (owns(frame, isResponse(frame))) return 'own';
      return isGroup(frame) ? 'hidden' : 'other';
    },
    // The direction is reversed: a hypervisor that receives requests sends responses, and vice
    // versa.
    poses: (frame) => isAoe(frame) && owns(frame, !isResponse(frame)),
    tagOf,
  };
}

function isResponse(frame: Uint8Array): boolean {
  return (flagsOf(frame) & Flag.response) !== 0;
}

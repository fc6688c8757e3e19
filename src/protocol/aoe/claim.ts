/**
 * Which AoE frames are the hypervisor's where it shares a network adapter with an operating system: of a target the
 * requests for its shelf and slot and for all, of an initiator the responses of its target. Discovery, which goes to all
 * stations, is between hypervisors and hidden from operating systems; what else is AoE is theirs. [AoE] 2.
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
    // What the claim is sent as a request goes out as a response, and the other way round.
    poses: (frame) => isAoe(frame) && owns(frame, !isResponse(frame)),
    tagOf,
  };
}

function isResponse(frame: Uint8Array): boolean {
  return (flagsOf(frame) & Flag.response) !== 0;
}

/** A fetched command as its device is given it, and as it ends where the device never gets it. */
import type { RequestOptions } from '../../block/device.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { AtaError, AtaStatus, good } from './ata-spec.js';
import { prdtBuffers, type SlotCommand } from './command-list.js';
import type { DeviceCommand, Outcome } from './sata-device.js';

/** What the device is given of a command. @param placed Where its data goes: nowhere, once it is given up. */
export function requestOf(
  command: SlotCommand,
  memory: GuestMemory,
  placed: GuestMemory,
  options: RequestOptions,
): DeviceCommand {
  const { fis, packet, slot, prdt } = command;
  return {
    file: fis,
    packet,
    slot,
    options,
    toHost: (length) => prdtBuffers(placed, prdt, length),
    toHostUpTo: (length) => prdtBuffers(placed, prdt, length, true),
    fromHost: (length) => prdtBuffers(memory, prdt, length),
  };
}

/** How a command ends that the port refuses: aborted, its registers as they were. */
export function abortedOutcome({ fis }: SlotCommand): Outcome {
  const result = {
    status: good | AtaStatus.error,
    error: AtaError.abort,
    lba: fis.lba,
    count: fis.count,
    device: fis.device,
  };
  return { protocol: 'none', result, transferred: 0 };
}

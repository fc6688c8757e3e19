/**
 * Translates a fetched command into the request that its device executes, and into the outcome of a
 * command that the port refuses.
 */
import type { RequestOptions } from '../../block/device.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { AtaError, AtaStatus, good } from '../../spec/ata.js';
import { prdtBuffers, type SlotCommand } from './command-list.js';
import type { DeviceCommand, DeviceOutcome } from '../ata/sata-device.js';

/**
 * The request for the device.
 * @param placed Memory for data to the host; it discards writes once the command is given up.
 */
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

/** The outcome of a command that the port refuses: aborted, with its registers unchanged. */
export function abortedOutcome({ fis }: SlotCommand): DeviceOutcome {
  const result = {
    status: good | AtaStatus.error,
    error: AtaError.abort,
    lba: fis.lba,
    count: fis.count,
    device: fis.device,
  };
  return { protocol: 'none', result, transferred: 0 };
}

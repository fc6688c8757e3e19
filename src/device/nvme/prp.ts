/**
 * Physical region page (PRP) entries (NVMe 1.4 §4.3): where the data of a command is in guest
 * memory.
 *
 * Left out: SGLs (Identify Controller reports SGLS 0).
 */
import { GuestBuffers, joinRanges, type GuestMemory, type GuestRange } from '../../machine/guest-memory.js';
import { CommandError, uint64, type NvmeCommand } from './command.js';
import { Status } from '../../spec/nvme.js';

const pageSize = 4096;

/**
 * The `length` bytes that the PRP entries of a command point to. A PRP list that points back at
 * itself does not loop forever, because `length` bounds the walk.
 * @throws CommandError "invalid PRP offset" if an entry is not aligned as §4.3 requires; "data
 *   transfer error" if one points outside guest memory
 */
export function prpBuffers(memory: GuestMemory, command: NvmeCommand, length: number): GuestBuffers {
  if (command.psdt !== 0) throw new CommandError(Status.invalidField);
  return new GuestBuffers(memory, joinRanges(prpSegments(memory, command.prp1, command.prp2, length)));
}

function prpSegments(memory: GuestMemory, prp1: number, prp2: number, length: number): GuestRange[] {
  if (prp1 % 4 !== 0) throw new CommandError(Status.invalidPrpOffset);
  const first = Math.min(length, pageSize - (prp1 % pageSize));
  const segments = [checked(memory, prp1, first)];
  let left = length - first;
  if (left === 0) return segments;
  if (left <= pageSize) {
    // §4.3: if the rest of the data fits in one page, PRP2 is the address of that page.
    segments.push(page(memory, prp2, left));
    return segments;
  }
  // Otherwise PRP2 is the address of a PRP list, which may begin within a page. If the list goes
  // on, the last entry in a page is the address of the next page of the list.
  let list = prp2;
  if (list % 8 !== 0) throw new CommandError(Status.invalidPrpOffset);
  while (left > 0) {
    const entries = (pageSize - (list % pageSize)) / 8;
    const bytes = memory.view(list, entries * 8);
    if (!bytes) throw new CommandError(Status.dataTransferError);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const more = Math.ceil(left / pageSize) > entries;
    const here = more ? entries - 1 : entries;
    for (let i = 0; i < here && left > 0; i++) {
      const take = Math.min(left, pageSize);
      segments.push(page(memory, uint64(view, i * 8), take));
      left -= take;
    }
    if (left > 0) {
      list = uint64(view, (entries - 1) * 8);
      if (list % pageSize !== 0) throw new CommandError(Status.invalidPrpOffset);
    }
  }
  return segments;
}

function page(memory: GuestMemory, address: number, length: number): GuestRange {
  if (address % pageSize !== 0) throw new CommandError(Status.invalidPrpOffset);
  return checked(memory, address, length);
}

function checked(memory: GuestMemory, address: number, length: number): GuestRange {
  // A view is an object, which costs more than the check: a long transfer has hundreds of pages.
  const place = memory.addressOf ? memory.addressOf(address, length) : memory.view(address, length);
  if (place === undefined) throw new CommandError(Status.dataTransferError);
  return { address, length };
}

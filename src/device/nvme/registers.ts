/**
 * The register map (NVMe 1.4 §3.1) as a table: for each dword, the value it reads as and the bits
 * that a write changes.
 *
 * Not here: the effects of a write on the controller (controller.ts), the doorbells
 * (controller.ts).
 */
import { Register } from '../../spec/nvme.js';

/** The registers that store a value. All others are constants. */
export interface RegisterFile {
  intms: number;
  cc: number;
  csts: number;
  aqa: number;
  asqLow: number;
  asqHigh: number;
  acqLow: number;
  acqHigh: number;
}

/**
 * The effect of a register write on the controller, beyond the stored value: `cc` configures it,
 * `mask` may change the interrupt line.
 */
export type WriteEffect = 'none' | 'cc' | 'mask';

// §3.1.1 CAP: MQES 1023 (0-based), CQR 1, TO 127.5 s because a reset may have to wait for a remote
// disk, DSTRD 0, CSS: NVM command set.
const capLow = 1023 | (1 << 16) | (0xff << 24);
const capHigh = 1 << 5;

interface Entry {
  readonly offset: number;
  readonly read: (file: RegisterFile) => number;
  readonly write?: (file: RegisterFile, value: number) => WriteEffect;
}

type Stored = 'aqa' | 'asqLow' | 'asqHigh' | 'acqLow' | 'acqHigh';

/**
 * A register that stores the bits of `mask`. Writable only while the controller is disabled (§3.1.7
 * to §3.1.9).
 */
const stored = (offset: number, name: Stored, mask: number): Entry => ({
  offset,
  read: (file) => file[name],
  write: (file, value) => {
    if ((file.cc & 1) === 0) file[name] = (value & mask) >>> 0;
    return 'none';
  },
});

const entries: readonly Entry[] = [
  { offset: Register.cap, read: () => capLow >>> 0 },
  { offset: Register.cap + 4, read: () => capHigh },
  { offset: Register.vs, read: () => 0x00010400 },
  {
    offset: Register.intms,
    read: (file) => file.intms,
    write: (file, value) => {
      file.intms = (file.intms | value) >>> 0;
      return 'mask';
    },
  },
  {
    offset: Register.intmc,
    read: (file) => file.intms,
    write: (file, value) => {
      file.intms = (file.intms & ~value) >>> 0;
      return 'mask';
    },
  },
  {
    offset: Register.cc,
    read: (file) => file.cc,
    write: (file, value) => {
      file.cc = (value & 0x00fffff1) >>> 0;
      return 'cc';
    },
  },
  { offset: Register.csts, read: (file) => file.csts },
  stored(Register.aqa, 'aqa', 0x0fff0fff),
  stored(Register.asq, 'asqLow', 0xfffff000),
  stored(Register.asq + 4, 'asqHigh', 0xffffffff),
  stored(Register.acq, 'acqLow', 0xfffff000),
  stored(Register.acq + 4, 'acqHigh', 0xffffffff),
];

const map = new Map(entries.map((entry) => [entry.offset, entry]));

/** Reads the dword at `offset`. Reserved dwords and doorbells read as zero. */
export function readRegister(file: RegisterFile, offset: number): number {
  return map.get(offset)?.read(file) ?? 0;
}

/** Writes the dword at `offset`. Writes to constant and reserved registers are ignored. */
export function writeRegister(file: RegisterFile, offset: number, value: number): WriteEffect {
  return map.get(offset)?.write?.(file, value) ?? 'none';
}

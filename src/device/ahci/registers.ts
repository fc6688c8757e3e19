/** The register map (AHCI 1.3.1 §3) as data: what each dword reads as and which bits a write changes. */
import { Cap, Ghc, HbaRegister, PortCmd, PortInterrupt, PortRegister, SError, slots } from './spec.js';

/** Generic host control: what holds a value. */
export interface HbaFile {
  ghc: number;
  /** IS: ports with an interrupt pending. */
  is: number;
  /** PI, fixed. */
  readonly ports: number;
}

/** A port's registers. */
export interface PortFile {
  clb: number;
  clbu: number;
  fb: number;
  fbu: number;
  is: number;
  ie: number;
  cmd: number;
  tfd: number;
  sig: number;
  ssts: number;
  sctl: number;
  serr: number;
  sact: number;
  ci: number;
}

/** What a write to the generic registers means beyond the stored value. */
export type HbaEffect = 'none' | 'reset' | 'interrupt';
/** The same of a port's: `command` PxCMD, `link` PxSCTL, `issue` PxCI. */
export type PortEffect = 'none' | 'interrupt' | 'status' | 'command' | 'link' | 'issue';

/** §3.3: everything but the addresses at its reset value; §3.3.7 SUD and POD are 1 where neither can be switched. */
export const portResetValues = {
  is: 0,
  ie: 0,
  cmd: PortCmd.spinUp | PortCmd.powerOn | PortCmd.hotPlugCapable,
  tfd: 0x7f,
  sig: 0xffffffff,
  ssts: 0,
  sctl: 0,
  serr: 0,
  sact: 0,
  ci: 0,
} as const;

interface Entry<File, Effect> {
  readonly offset: number;
  readonly read: (file: File) => number;
  /** `mask` has the bits that the access covers; `value` has no others. */
  readonly write?: (file: File, value: number, mask: number) => Effect;
}

/**
 * CAP: no staggered spin-up, port multiplier, power management beyond the active state, enclosure or coalescing; and no
 * SNTF, because a driver would read and write it for every queued command that ends.
 */
const capabilities = (ports: number): number => {
  const count = 32 - Math.clz32(ports);
  const fixed = Cap.pioMultipleDrq | Cap.ahciOnly | Cap.gen3 | Cap.commandListOverride | Cap.ncq | Cap.addresses64;
  return ((count - 1) | ((slots - 1) << Cap.ncsShift) | fixed) >>> 0;
};

const hbaEntries: readonly Entry<HbaFile, HbaEffect>[] = [
  { offset: HbaRegister.cap, read: (file) => capabilities(file.ports) },
  {
    offset: HbaRegister.ghc,
    read: (file) => (file.ghc | Ghc.ahci) >>> 0,
    write: (file, value, mask) => {
      if (value & Ghc.reset && !(file.ghc & Ghc.reset)) {
        file.ghc |= Ghc.reset;
        return 'reset';
      }
      if (!(file.ghc & Ghc.reset)) file.ghc = ((file.ghc & ~mask) | value) & Ghc.interrupts;
      return 'interrupt';
    },
  },
  {
    offset: HbaRegister.is,
    read: (file) => file.is >>> 0,
    write: (file, value) => {
      file.is &= ~value;
      return 'interrupt';
    },
  },
  { offset: HbaRegister.pi, read: (file) => file.ports >>> 0 },
  { offset: HbaRegister.vs, read: () => 0x00010301 },
  { offset: HbaRegister.cap2, read: () => 0 },
  { offset: HbaRegister.bohc, read: () => 0 },
];

type Stored = 'clb' | 'clbu' | 'fb' | 'fbu' | 'ie' | 'sctl';

/** A register that keeps the bits of `kept`. */
const stored = (
  offset: number,
  name: Stored,
  kept: number,
  effect: PortEffect = 'none',
): Entry<PortFile, PortEffect> => ({
  offset,
  read: (file) => file[name] >>> 0,
  write: (file, value, mask) => {
    file[name] = (((file[name] & ~mask) | value) & kept) >>> 0;
    return effect;
  },
});

/** PxIS with the bits that only show what PxSERR has (§3.3.5: PCS and PRCS). */
export function interruptStatus(file: PortFile): number {
  const connect = file.serr & SError.exchanged ? PortInterrupt.connectChange : 0;
  const ready = file.serr & SError.phyReadyChange ? PortInterrupt.phyReadyChange : 0;
  return (file.is | connect | ready) >>> 0;
}

const portEntries: readonly Entry<PortFile, PortEffect>[] = [
  stored(PortRegister.clb, 'clb', 0xfffffc00),
  stored(PortRegister.clbu, 'clbu', 0xffffffff),
  stored(PortRegister.fb, 'fb', 0xffffff00),
  stored(PortRegister.fbu, 'fbu', 0xffffffff),
  {
    offset: PortRegister.is,
    read: interruptStatus,
    write: (file, value) => {
      file.is &= ~(value & PortInterrupt.clearable);
      return 'status';
    },
  },
  stored(PortRegister.ie, 'ie', PortInterrupt.enable, 'interrupt'),
  {
    offset: PortRegister.cmd,
    read: (file) => file.cmd >>> 0,
    write: (file, value, mask) => {
      const writable = PortCmd.stored & mask;
      // CLO reads as zero once it has had its effect (controller); ICC once the interface is as asked: at once.
      file.cmd = (file.cmd & ~writable) | (value & (writable | PortCmd.commandListOverride));
      return 'command';
    },
  },
  { offset: PortRegister.tfd, read: (file) => file.tfd },
  { offset: PortRegister.sig, read: (file) => file.sig >>> 0 },
  { offset: PortRegister.ssts, read: (file) => file.ssts },
  stored(PortRegister.sctl, 'sctl', 0xfff, 'link'),
  {
    offset: PortRegister.serr,
    read: (file) => file.serr >>> 0,
    write: (file, value) => {
      file.serr &= ~value;
      return 'interrupt';
    },
  },
  {
    offset: PortRegister.sact,
    read: (file) => file.sact >>> 0,
    write: (file, value) => {
      if (file.cmd & PortCmd.start) file.sact |= value;
      return 'none';
    },
  },
  {
    offset: PortRegister.ci,
    read: (file) => file.ci >>> 0,
    write: (file, value) => {
      // §3.3.14: writing a 0 has no effect, and nothing has while PxCMD.ST is 0.
      if (!(file.cmd & PortCmd.start)) return 'none';
      file.ci |= value;
      return 'issue';
    },
  },
];

const hbaMap = new Map(hbaEntries.map((entry) => [entry.offset, entry]));
const portMap = new Map(portEntries.map((entry) => [entry.offset, entry]));

/** Reads a generic dword; reserved ones read as zero. */
export function readHba(file: HbaFile, offset: number): number {
  return hbaMap.get(offset)?.read(file) ?? 0;
}

/** Writes the bits `mask` of a generic dword; what is constant or reserved ignores it. */
export function writeHba(file: HbaFile, offset: number, value: number, mask: number): HbaEffect {
  return hbaMap.get(offset)?.write?.(file, value & mask, mask) ?? 'none';
}

/** Reads a port's dword; `offset` from the port's first register. */
export function readPort(file: PortFile, offset: number): number {
  return portMap.get(offset)?.read(file) ?? 0;
}

/** Writes the bits `mask` of a port's dword. */
export function writePort(file: PortFile, offset: number, value: number, mask: number): PortEffect {
  return portMap.get(offset)?.write?.(file, value & mask, mask) ?? 'none';
}

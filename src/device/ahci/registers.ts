/**
 * The register map (AHCI 1.3.1 §3) as a table: for each dword, the value it reads as and the bits
 * that a write changes.
 *
 * Not here: the effects of a write (controller.ts, port.ts, port-link.ts).
 */
import { Cap, Ghc, HbaRegister, PortCmd, PortInterrupt, PortRegister, SError, slots } from '../../spec/ahci.js';

/** The generic host control registers that store a value. */
export interface HbaFile {
  ghc: number;
  /** IS: the ports with an interrupt pending. */
  is: number;
  /** PI: the ports implemented. Constant. */
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

/** The effect of a write to a generic register, beyond the stored value. */
export type HbaEffect = 'none' | 'reset' | 'interrupt';
/**
 * The effect of a write to a port register: `status` is PxIS, `command` PxCMD, `link` PxSCTL,
 * `issue` PxCI.
 */
export type PortEffect = 'none' | 'interrupt' | 'status' | 'command' | 'link' | 'issue';

/**
 * §3.3: reset values of all port registers but the addresses. §3.3.7: SUD and POD are 1 and cannot
 * be changed.
 */
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
  /** `mask` has the bits that the access covers; all other bits of `value` are 0. */
  readonly write?: (file: File, value: number, mask: number) => Effect;
}

/**
 * CAP without staggered spin-up, port multipliers, link power states, enclosure management and
 * command coalescing. Without SNTF as well, because a driver would then read and write it for every
 * queued command that completes.
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

/** A register that stores the bits of `kept`. */
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

/** PxIS, with the bits that mirror PxSERR (§3.3.5: PCS and PRCS). */
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
      // CLO reads as 0 once it has had its effect (port.ts). ICC always reads as 0, because a
      // change of the interface state is immediate.
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
      // §3.3.14: writing a 0 has no effect, and no write has an effect while PxCMD.ST is 0.
      if (!(file.cmd & PortCmd.start)) return 'none';
      file.ci |= value;
      return 'issue';
    },
  },
];

const hbaMap = new Map(hbaEntries.map((entry) => [entry.offset, entry]));
const portMap = new Map(portEntries.map((entry) => [entry.offset, entry]));

/** Reads the generic dword at `offset`. Reserved dwords read as zero. */
export function readHba(file: HbaFile, offset: number): number {
  return hbaMap.get(offset)?.read(file) ?? 0;
}

/**
 * Writes the bits `mask` of a generic dword. Writes to constant and reserved dwords are ignored.
 */
export function writeHba(file: HbaFile, offset: number, value: number, mask: number): HbaEffect {
  return hbaMap.get(offset)?.write?.(file, value & mask, mask) ?? 'none';
}

/** Reads a dword of a port. `offset` counts from the port's first register. */
export function readPort(file: PortFile, offset: number): number {
  return portMap.get(offset)?.read(file) ?? 0;
}

/** Writes the bits `mask` of a port's dword. */
export function writePort(file: PortFile, offset: number, value: number, mask: number): PortEffect {
  return portMap.get(offset)?.write?.(file, value & mask, mask) ?? 'none';
}

/** What a site is: computers and the segments between them, as a site file describes them, with nothing left open. */
import type { Mac } from '../network/ethernet/mac.js';

export type ComputerRole = 'client' | 'server';

export interface SegmentPlan {
  readonly name: string;
  readonly mtu: number;
  /** What carries it outside of this site (docs/ethernet.md); undefined: it is of this site only. */
  readonly via: string | undefined;
}

/** The operating system: a kernel of the user's, or Debian's. */
export interface SystemPlan {
  /** The firmware boots what is on the drives; nothing else is given then but `ready`. */
  readonly bios: boolean;
  readonly kernel: string | undefined;
  /** Which release of Debian, where no kernel is given. */
  readonly debian: 11 | 12;
  /** Packages of Debian that its system has as well, by name. */
  readonly with: readonly string[];
  readonly initrd: string | undefined;
  readonly append: string | undefined;
  /** What it prints when it is up; undefined: nobody knows. */
  readonly ready: string | undefined;
}

export interface AoeNumber {
  readonly shelf: number;
  readonly slot: number;
}

/** A drive of a computer: by a text as `farbus run --drive` has it, a far device of the site, or one of its own devices. */
export type SiteDrive =
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'far';
      /** "SERVER/DEVICE" */
      readonly name: string;
      readonly aoe: AoeNumber;
      readonly readOnly: boolean;
      readonly bus: 'nvme' | 'ahci';
    }
  | { readonly kind: 'own'; readonly device: string };

/** A physical device 914, which the virtual I/O server serves. */
export interface DevicePlan {
  readonly name: string;
  readonly source: string;
  readonly aoe: AoeNumber;
  readonly readOnly: boolean;
  /** Who writes where OS 2 has it as well: `network` or `local`; undefined where it has not. */
  readonly lease: 'network' | 'local' | undefined;
}

export interface ComputerPlan {
  readonly name: string;
  readonly role: ComputerRole;
  /** Bytes; undefined: as much as is usual for its system. */
  readonly memory: number | undefined;
  readonly system: SystemPlan;
  /** Name of the segment that its network adapter is on. */
  readonly segment: string | undefined;
  readonly mac: Mac;
  /** "192.0.2.1/24" */
  readonly address: string | undefined;
  readonly drives: readonly SiteDrive[];
  readonly devices: readonly DevicePlan[];
  readonly snapshot: string | undefined;
  /** How long a far device may be away before the guest gets errors. */
  readonly reconnectSeconds: number;
}

export interface SitePlan {
  readonly name: string;
  /** Every computer in a process of its own, or all in one. */
  readonly processes: 'each' | 'one';
  readonly segments: readonly SegmentPlan[];
  readonly computers: readonly ComputerPlan[];
}

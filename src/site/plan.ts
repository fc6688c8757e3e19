/**
 * The plan of a site: its computers and the segments between them, from a site file with all
 * defaults filled in.
 */
import type { Mac } from '../network/ethernet/mac.js';

export type ComputerRole = 'client' | 'server';

/** The engine that a site file asks for. */
export type EnginePlan = 'v86' | 'kvm' | 'auto';

/** An Ethernet segment. */
export interface SegmentPlan {
  readonly name: string;
  readonly mtu: number;
  /**
   * Carrier that connects it with the outside (docs/ethernet.md); undefined if it is only within
   * this site.
   */
  readonly via: string | undefined;
}

/** The operating system: the user's kernel, or Debian's. */
export interface SystemPlan {
  /** The firmware boots from the drives. Then a site file can only set `ready` besides. */
  readonly bios: boolean;
  /** The same with UEFI firmware, which only the KVM engine has. */
  readonly uefi: boolean;
  /** File for UEFI's variables; undefined for one beside the overlay of a drive, or none. */
  readonly uefiVariables: string | undefined;
  readonly kernel: string | undefined;
  /** Debian release, if no kernel is given. */
  readonly debian: 11 | 12;
  /** Names of further Debian packages in its system. */
  readonly with: readonly string[];
  readonly initrd: string | undefined;
  readonly append: string | undefined;
  /** Text that it prints when it is up; undefined if unknown. */
  readonly ready: string | undefined;
}

/** The AoE address of a device. */
export interface AoeNumber {
  readonly shelf: number;
  readonly slot: number;
}

/**
 * A drive of a computer: a text in the syntax of `farbus run --drive`, a far device of the site, or
 * one of the computer's own devices.
 */
export type SiteDrive =
  | { readonly kind: 'text'; readonly text: string; readonly bus: 'nvme' | 'ahci' | 'ide' }
  | {
      readonly kind: 'far';
      /** "SERVER/DEVICE" */
      readonly name: string;
      readonly aoe: AoeNumber;
      readonly readOnly: boolean;
      readonly bus: 'nvme' | 'ahci';
      /** The user vouches for the disk if nothing proves that it is the same. */
      readonly assumeSame: boolean;
    }
  | { readonly kind: 'own'; readonly device: string };

/** A physical device 914, served by the virtual I/O server. */
export interface DevicePlan {
  readonly name: string;
  readonly source: string;
  readonly aoe: AoeNumber;
  readonly readOnly: boolean;
  /**
   * The side that may write first if OS 2 also has the device (`network` or `local`); undefined if
   * it does not.
   */
  readonly lease: 'network' | 'local' | undefined;
}

/** A computer. */
export interface ComputerPlan {
  readonly name: string;
  readonly role: ComputerRole;
  /** Undefined for the choice of the user who starts the site. */
  readonly engine: EnginePlan | undefined;
  readonly processors: number;
  /** Memory in bytes; undefined for the default of its system. */
  readonly memory: number | undefined;
  readonly system: SystemPlan;
  /** Name of the segment of its network adapter. */
  readonly segment: string | undefined;
  readonly mac: Mac;
  /** IPv4 address with prefix: "192.0.2.1/24". */
  readonly address: string | undefined;
  readonly drives: readonly SiteDrive[];
  readonly devices: readonly DevicePlan[];
  readonly snapshot: string | undefined;
  /** Time for which requests wait for a lost far device before the guest gets errors. */
  readonly reconnectSeconds: number;
}

/** A site as a whole. */
export interface SitePlan {
  readonly name: string;
  /** `each`: one process for each computer; `one`: one process for all. */
  readonly processes: 'each' | 'one';
  readonly segments: readonly SegmentPlan[];
  readonly computers: readonly ComputerPlan[];
}

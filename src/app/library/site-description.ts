/**
 * A site as an object of JavaScript: the same keys as a site file (docs/site.md). It is checked as
 * a file is (config/site.ts).
 */

/** A site: computers and the Ethernet segments between them. */
export interface SiteDescription {
  /** Letters, digits, - and _, at most 31. Default: `site`. */
  readonly name?: string;
  /** `each` computer in a process of its own, or all in `one`. Default `each`. */
  readonly processes?: 'each' | 'one';
  /** The engine of its computers. Default: `FARBUS_ENGINE`, else auto. */
  readonly engine?: 'v86' | 'kvm' | 'auto';
  /** The segments by name. */
  readonly segments?: Readonly<Record<string, SiteSegment>>;
  /** The computers by name; at least one. */
  readonly computers: Readonly<Record<string, SiteComputer>>;
}

/** An Ethernet segment of a site. */
export interface SiteSegment {
  /** Longest packet in bytes, 68 to 65000. Default 1500; 1450 with VXLAN. */
  readonly mtu?: number;
  /** Carrier beyond this site, for example `vxlan:42/192.0.2.7`. Default: none. */
  readonly via?: string;
}

/** A computer of a site. */
export interface SiteComputer {
  /** A `server` serves devices to the clients of its segment. */
  readonly role: 'client' | 'server';
  /**
   * A text such as `256M`: 64M to 1024M, with KVM to 8192M. Default 128M, with KVM 256M; more if
   * its packages need it.
   */
  readonly memory?: string;
  /** Its own engine. Default: that of the site. */
  readonly engine?: 'v86' | 'kvm' | 'auto';
  /** Number of processors, 1 to 8; v86 has one. Default 1. */
  readonly cpus?: number;
  /** Name of the segment of its network adapter. Default: no adapter. */
  readonly network?: string;
  /** Its MAC address, `02:00:00:00:00:01`. Default: made from the names. */
  readonly mac?: string;
  /** IPv4 address with prefix, `10.0.0.1/24`, for Debian's system. */
  readonly address?: string;
  /** The drives, in the guest's order: texts of `farbus run --drive`, or devices of a server. */
  readonly drives?: readonly (string | SiteFarDrive)[];
  /** Of a server: the devices that it serves, by name. */
  readonly devices?: Readonly<Record<string, SiteDevice>>;
  /** The operating system. Default: Debian 12. */
  readonly system?: SiteSystem;
  /** A file from which the computer continues, or which it writes when it has booted. */
  readonly snapshot?: string;
  /** How long a far device may be away before the system gets errors, in seconds. Default 60. */
  readonly reconnect?: number;
}

/** A drive of a client that is a device of a server of the site. */
export interface SiteFarDrive {
  /** `SERVER/DEVICE` */
  readonly far: string;
  /** If true, the client does not write it. Default false. */
  readonly 'read-only'?: boolean;
  /** The bus of the drive. Default `nvme`. */
  readonly bus?: 'nvme' | 'ahci';
  /** Accept another disk after a reconnect if nothing shows a difference. Default false. */
  readonly 'assume-same'?: boolean;
}

/** A device that a server of a site serves. */
export interface SiteDevice {
  /** The text of a source. */
  readonly source: string;
  /** `SHELF.SLOT`. Default: its place in the site. */
  readonly aoe?: string;
  /** If true, no client writes it. Default false. */
  readonly 'read-only'?: boolean;
  /** If true, the server's own system has the device too. Default false. */
  readonly local?: boolean;
  /** With `local`: the side that writes first. Default `network`. */
  readonly lease?: 'network' | 'local';
}

/** The operating system of a computer of a site. */
export interface SiteSystem {
  /** Debian's release. Default 12. */
  readonly debian?: 11 | 12;
  /** Names of further Debian packages. */
  readonly with?: readonly string[];
  /** The path of another kernel. */
  readonly kernel?: string;
  /** The path of its initramfs. */
  readonly initrd?: string;
  /** Words for the kernel's command line. */
  readonly append?: string;
  /** If true, the firmware boots from the drives. */
  readonly bios?: boolean;
  /** Text that the system prints when it is up. */
  readonly ready?: string;
}

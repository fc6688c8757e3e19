/**
 * Landlock (Documentation/userspace-api/landlock.rst of Linux): restricts this thread, and the
 * program that it becomes by execve, to the granted files and to no TCP port. Knows versions 1
 * (Linux 5.13) to 7. What an older kernel cannot restrict stays unrestricted (docs/security.md).
 */
import { requireKoffi, type Koffi } from './koffi.node.js';
import { gainNoRights } from './process.node.js';
import { systemError } from './system-error.node.js';

/** Access rights (linux/landlock.h). */
const execute = 1n << 0n;
const writeFile = 1n << 1n;
const readFile = 1n << 2n;
const readDir = 1n << 3n;
const removeFile = 1n << 5n;
const makeSock = 1n << 9n;
const truncate = 1n << 14n;
const ioctlDev = 1n << 15n;
/** The rights that versions 1 to 4 know. */
const rightsOf = [13n, 14n, 15n, 15n].map((bits) => (1n << bits) - 1n);
/** The rights of versions 5 and later. */
const allRights = (1n << 16n) - 1n;
/** Network rights: bind and connect a TCP port (version 4). */
const tcp = 3n;
/** Scopes: abstract unix sockets, and signals to processes outside (version 6). */
const scopes = 3n;

/** System call numbers, equal on x86-64 and arm64. */
const createRuleset = 444;
const addRule = 445;
const restrictSelf = 446;
const versionFlag = 1;
const pathBeneath = 1;

/** A file or folder that stays accessible, and the kind of access. */
export interface LandlockGrant {
  /** Descriptor of a file or folder; O_PATH is enough. */
  readonly fd: number;
  /**
   * `socket`: a folder in which one unix socket is created and removed. `programs`: a folder of
   * programs and libraries.
   */
  readonly to: 'read' | 'write' | 'device-read' | 'device-write' | 'programs' | 'socket';
}

const file = readFile;
const grants: Readonly<Record<LandlockGrant['to'], bigint>> = {
  read: file,
  write: file | writeFile | truncate,
  'device-read': file | ioctlDev,
  'device-write': file | writeFile | truncate | ioctlDev,
  programs: execute | readFile | readDir,
  socket: makeSock | removeFile,
};

type Syscall = (number: number, ...args: unknown[]) => number;

/** syscall(2) with arguments of these types. */
function syscallOf(koffi: Koffi, ...types: readonly string[]): Syscall {
  return koffi.load(null).func('syscall', 'long', ['long', ...types]) as Syscall;
}

/** The kernel's Landlock version; 0 if it has none. */
export function landlockVersion(): number {
  const koffi = requireKoffi('Landlock');
  return Math.max(0, Number(syscallOf(koffi, 'void *', 'size_t', 'uint32')(createRuleset, null, 0, versionFlag)));
}

/**
 * Restricts the calling thread permanently to the granted files.
 * @throws Error if the kernel refuses
 */
export function restrictToGrants(list: readonly LandlockGrant[]): void {
  const koffi = requireKoffi('Landlock');
  const version = landlockVersion();
  const rights = version >= 5 ? allRights : (rightsOf[version - 1] ?? 0n);
  if (rights === 0n) throw new Error('this kernel has no Landlock');
  const check = (what: string, result: number): number => {
    if (result < 0) throw systemError(what, koffi.errno());
    return Number(result);
  };
  // struct landlock_ruleset_attr, with the length that this version knows.
  const attributes = new BigUint64Array([rights, tcp, scopes].slice(0, version >= 6 ? 3 : version >= 4 ? 2 : 1));
  const create = syscallOf(koffi, 'void *', 'size_t', 'uint32');
  const ruleset = check('landlock_create_ruleset', create(createRuleset, attributes, attributes.byteLength, 0));
  const add = syscallOf(koffi, 'int', 'int', 'void *', 'uint32');
  for (const { fd, to } of list) {
    // struct landlock_path_beneath_attr, which is packed.
    const rule = new DataView(new ArrayBuffer(12));
    rule.setBigUint64(0, grants[to] & rights, true);
    rule.setInt32(8, fd, true);
    check('landlock_add_rule', add(addRule, ruleset, pathBeneath, new Uint8Array(rule.buffer), 0));
  }
  gainNoRights();
  check('landlock_restrict_self', syscallOf(koffi, 'int', 'uint32')(restrictSelf, ruleset, 0));
}

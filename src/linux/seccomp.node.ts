/**
 * seccomp(2) filter for what Landlock does not restrict in every version: no network and no
 * connection to any socket; no truncate(2) by path; no io_uring, whose requests bypass the filter;
 * no access to other processes. qemu-nbd only needs to listen on one unix socket.
 */
import { requireKoffi } from './koffi.node.js';
import { systemError } from './system-error.node.js';

interface Machine {
  /** AUDIT_ARCH_* (linux/audit.h). */
  readonly arch: number;
  readonly socket: number;
  /** System calls that fail with EPERM. */
  readonly refused: readonly number[];
}

const io_uring_setup = 425;

/**
 * By Node's processor names. The refused calls: connect, truncate, ptrace, process_vm_readv,
 * process_vm_writev, open_by_handle_at.
 */
const machines: Readonly<Record<string, Machine>> = {
  x64: { arch: 0xc000_003e, socket: 41, refused: [42, 76, 101, 310, 311, 304] },
  arm64: { arch: 0xc000_00b7, socket: 198, refused: [203, 45, 117, 270, 271, 265] },
};

/**
 * BPF instructions (linux/bpf_common.h), offsets in struct seccomp_data, and results
 * (linux/seccomp.h).
 */
const load = 0x20;
const and = 0x54;
const equal = 0x15;
const atLeast = 0x35;
const give = 0x06;
const numberAt = 0;
const archAt = 4;
const domainAt = 16;
const typeAt = 24;
const allow = 0x7fff_0000;
const killProcess = 0x8000_0000;
const errno = (code: number): number => 0x0005_0000 | code;
const [EPERM, ENOSYS, EAFNOSUPPORT] = [1, 38, 97];
const [AF_UNIX, SOCK_STREAM] = [1, 1];
/**
 * First system call number of x32 on x86-64; its calls have other numbers than those filtered here.
 */
const x32 = 0x4000_0000;

type Instruction = readonly [code: number, value: number, ifTrue?: number, ifFalse?: number];

/** The filter program for a processor; undefined if the processor is unknown. */
export function seccompProgram(processor: string): readonly Instruction[] | undefined {
  const machine = machines[processor];
  if (!machine) return undefined;
  const refuse = (number: number, code: number): Instruction[] => [
    [equal, number, 0, 1],
    [give, errno(code)],
  ];
  return [
    [load, archAt],
    [equal, machine.arch, 1, 0],
    [give, killProcess],
    [load, numberAt],
    [atLeast, x32, 0, 1],
    [give, errno(ENOSYS)],
    ...machine.refused.flatMap((number) => refuse(number, EPERM)),
    ...refuse(io_uring_setup, ENOSYS),
    // socket(2): allow only stream sockets of the unix family.
    [equal, machine.socket, 1, 0],
    [give, allow],
    [load, domainAt],
    [equal, AF_UNIX, 0, 3],
    [load, typeAt],
    [and, 0xf],
    [equal, SOCK_STREAM, 1, 0],
    [give, errno(EAFNOSUPPORT)],
    [give, allow],
  ];
}

const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;

/**
 * Applies the filter permanently to the calling thread, which must have no_new_privs set.
 * @throws Error if the kernel refuses
 */
export function filterSystemCalls(): void {
  const koffi = requireKoffi('seccomp');
  const program = seccompProgram(process.arch);
  if (!program) throw new Error(`no filter of system calls for ${process.arch}`);
  // An array of struct sock_filter, and a struct sock_fprog that points to it.
  const code = new DataView(new ArrayBuffer(program.length * 8));
  for (const [index, [operation, value, ifTrue = 0, ifFalse = 0]] of program.entries()) {
    code.setUint16(index * 8, operation, true);
    code.setUint8(index * 8 + 2, ifTrue);
    code.setUint8(index * 8 + 3, ifFalse);
    code.setUint32(index * 8 + 4, value, true);
  }
  const bytes = new Uint8Array(code.buffer);
  const header = new BigUint64Array([BigInt(program.length), koffi.address(bytes)]);
  const prctl = koffi.load(null).func('prctl', 'int', ['int', 'ulong', 'void *', 'ulong', 'ulong']);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) !== 0) {
    throw systemError('prctl', koffi.errno());
  }
  // Keeps the array alive until here; the kernel has copied it now.
  void bytes.length;
}

/**
 * The choice of a computer's engine: KVM runs 64-bit systems on the processor itself; v86 emulates
 * a 32-bit processor, and runs everywhere.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { FarbusError, usageError } from '../../base/errors.js';
import { hasKvmDevice, probeKvm, type KvmState } from '../../machine/engines/kvm/probe.node.js';
import type { Architecture } from '../../guest/lock.node.js';

export type EngineName = 'v86' | 'kvm';

export const engineWords = ['v86', 'kvm', 'auto'] as const;
export type EngineWord = (typeof engineWords)[number];

/** The chosen engine, and its limits. */
export interface EngineChoice {
  readonly name: EngineName;
  /**
   * One line for a user who left the choice to us, if the user asked for it or would wonder: why it
   * was chosen.
   */
  readonly why: string | undefined;
  /** Why it is not KVM; undefined if it is, or if the user named v86. */
  readonly notKvm?: string | undefined;
  readonly architecture: Architecture;
}

/** The facts of a computer on which the choice depends. */
export interface EngineNeeds {
  /** Needs that KVM cannot meet yet, in the words of their options. */
  readonly lacks: readonly string[];
  /** The firmware boots a system from the drives. */
  readonly bios?: boolean | undefined;
  /** Files of the user's kernel and initramfs. */
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  /** Memory in bytes, if the user has said how much. */
  readonly memory?: number | undefined;
}

const v86 = { name: 'v86', architecture: 'i386' } as const;
const kvm = { name: 'kvm', architecture: 'amd64' } as const;

/** Largest memory of a computer on v86, in bytes. */
export const maxMemory = 1 << 30;
/** Largest memory in bytes, and most processors, of a computer on any engine: KVM's. */
export const largestMemory = 2 ** 33;
export const mostProcessors = 8;
/** Memory that Debian's 64-bit kernel needs to start, in bytes. The 32-bit one needs half of it. */
const least64BitMemory = 128 << 20;

/**
 * Checks a computer's memory in bytes, and its number of processors.
 * @throws FarbusError if only another engine can have so much
 */
export function checkMachine({ name, notKvm }: EngineChoice, memory: number, processors: number): void {
  if (name === 'kvm') return;
  const other = notKvm === undefined ? ', or --engine kvm' : ` (${notKvm})`;
  if (memory > maxMemory) throw usageError(`the v86 engine can have 1 GiB of memory: take less${other}`);
  if (processors > 1) throw usageError(`the v86 engine has one processor: leave --cpus out${other}`);
}

/**
 * Chooses an engine. `why` says nothing about a choice that the user has not asked for, unless KVM
 * works here and is not taken; {@link onEngine} has the words for the line of the start.
 * @param word the user's choice; default: FARBUS_ENGINE, else auto
 * @param probe finds out whether KVM works here
 * @throws FarbusError if KVM was asked for and cannot be used
 */
export function chooseEngine(
  word: string | undefined,
  env: NodeJS.ProcessEnv,
  needs: EngineNeeds,
  probe: () => KvmState = probeKvm,
): EngineChoice {
  const given = word ?? (env['FARBUS_ENGINE'] || undefined);
  const wanted = given ?? 'auto';
  if (!(engineWords as readonly string[]).includes(wanted)) {
    throw usageError(`FARBUS_ENGINE is ${JSON.stringify(wanted)}: give ${engineWords.join(', ')}`);
  }
  if (wanted === 'v86') return { ...v86, why: undefined };
  const [lack] = needs.lacks;
  const cannot = lack === undefined ? undefined : `the KVM engine cannot do ${lack} yet`;
  if (wanted === 'kvm' && cannot !== undefined) throw usageError(`${cannot}: take --engine v86`);
  const state = probe();
  if (wanted === 'kvm') {
    if (state !== true) throw new FarbusError(`KVM cannot be used: ${state}; --engine v86 works everywhere`);
    return { ...kvm, why: undefined };
  }
  const asked = given !== undefined;
  if (state !== true) {
    const notKvm = `KVM cannot be used: ${state}`;
    return { ...v86, notKvm, why: asked ? `engine v86, because ${notKvm}` : undefined };
  }
  const notKvm = cannot ?? reasonFor32Bits(needs);
  if (notKvm !== undefined) return { ...v86, notKvm, why: `engine v86: ${notKvm}` };
  return { ...kvm, why: asked ? 'engine kvm' : undefined };
}

/**
 * The engine in words that complete "Debian starts". A user with a KVM that cannot be used may
 * expect a fast guest, so the words then say why it is emulated.
 * @param hasDevice True if this computer has the device of KVM
 */
export function onEngine({ name, why, notKvm }: EngineChoice, hasDevice: boolean = hasKvmDevice()): string {
  if (name === 'kvm') return 'on KVM';
  return why === undefined && notKvm !== undefined && hasDevice ? `on v86 (${notKvm})` : 'on v86';
}

/** The engine for `farbus status`, with the reason if KVM was looked for and is not used. */
export function engineText({ name, notKvm }: EngineChoice): string {
  return notKvm === undefined ? name : `${name}: ${notKvm}`;
}

/** The reason why the choice is v86 where KVM is possible; undefined if there is none. */
function reasonFor32Bits({ bios, kernel, initrd, memory }: EngineNeeds): string | undefined {
  if (bios) return 'a system that the firmware boots may need a screen, which KVM has not yet';
  if (kernel !== undefined && !is64BitKernel(kernel)) return 'the kernel is for 32-bit processors';
  if (kernel === undefined && initrd !== undefined) return 'the initramfs may be for 32-bit processors';
  if (memory !== undefined && memory < least64BitMemory) return 'a 64-bit system needs 128M of memory';
  return undefined;
}

/** The kernel's Documentation/x86/boot.rst: xloadflags, bit 0 (XLF_KERNEL_64). */
const xloadflagsAt = 0x236;
const kernel64 = 1;

/** True if a file is a bzImage for 64-bit processors. False if it cannot be read. */
function is64BitKernel(file: string): boolean {
  try {
    // Opening a named pipe would wait for its writer.
    if (!statSync(file).isFile()) return false;
    const fd = openSync(file, 'r');
    try {
      const flags = new Uint8Array(1);
      return readSync(fd, flags, 0, 1, xloadflagsAt) === 1 && (flags[0]! & kernel64) !== 0;
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

/**
 * The choice of a computer's engine: KVM runs 64-bit systems on the processor itself; v86 emulates
 * a 32-bit processor, and runs everywhere.
 */
import { FarbusError, usageError } from '../../base/errors.js';
import { probeKvm } from '../../machine/engines/kvm/probe.node.js';
import type { Architecture } from '../../guest/lock.node.js';

export type EngineName = 'v86' | 'kvm';

export const engineWords = ['v86', 'kvm', 'auto'] as const;
export type EngineWord = (typeof engineWords)[number];

/** The chosen engine, and its limits. */
export interface EngineChoice {
  readonly name: EngineName;
  /** One line for the user: why it was chosen. Undefined if the user named it. */
  readonly why: string | undefined;
  readonly architecture: Architecture;
}

const v86 = { name: 'v86', architecture: 'i386' } as const;
const kvm = { name: 'kvm', architecture: 'amd64' } as const;

/** Largest memory of a computer on v86, in bytes. */
export const maxMemory = 1 << 30;
/** Largest memory in bytes, and most processors, of a computer on any engine: KVM's. */
export const largestMemory = 2 ** 33;
export const mostProcessors = 8;

/**
 * Checks a computer's memory in bytes, and its number of processors.
 * @throws FarbusError if only another engine can have so much
 */
export function checkMachine({ name }: EngineChoice, memory: number, processors: number): void {
  if (name === 'kvm') return;
  if (memory > maxMemory) throw usageError('the v86 engine can have 1 GiB of memory: take less, or --engine kvm');
  if (processors > 1) throw usageError('the v86 engine has one processor: leave --cpus out, or take --engine kvm');
}

/**
 * Chooses an engine.
 * @param word the user's choice; default: FARBUS_ENGINE, else v86
 * @param lacks what the computer needs and KVM cannot do yet, in the words of its option
 * @throws FarbusError if KVM was asked for and cannot be used
 */
export function chooseEngine(word: string | undefined, env: NodeJS.ProcessEnv, lacks: readonly string[]): EngineChoice {
  const wanted = word ?? (env['FARBUS_ENGINE'] || 'v86');
  if (!(engineWords as readonly string[]).includes(wanted)) {
    throw usageError(`FARBUS_ENGINE is ${JSON.stringify(wanted)}: give ${engineWords.join(', ')}`);
  }
  if (wanted === 'v86') return { ...v86, why: undefined };
  if (lacks.length > 0) {
    const reason = `the KVM engine cannot do ${lacks[0]!} yet`;
    if (wanted === 'kvm') throw usageError(`${reason}: take --engine v86`);
    return { ...v86, why: `engine v86: ${reason}` };
  }
  const state = probeKvm();
  if (state === true) return { ...kvm, why: wanted === 'auto' ? 'engine kvm' : undefined };
  if (wanted === 'kvm') throw new FarbusError(`KVM cannot be used: ${state}; --engine v86 works everywhere`);
  return { ...v86, why: `engine v86, because KVM cannot be used: ${state}` };
}

/** The choice of a computer's engine, with and without a KVM that works. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  checkMachine,
  chooseEngine,
  engineText,
  onEngine,
  type EngineNeeds,
} from '../../src/app/computer/engine-choice.js';
import type { KvmState } from '../../src/machine/engines/kvm/probe.node.js';
import { tempFolder } from '../support/temp.js';

const none = 'there is no /dev/kvm here';
const folder = tempFolder();

/** A file that is a bzImage as far as the choice looks at it. */
function kernel(name: string, flags: number): string {
  const bytes = new Uint8Array(0x400);
  bytes[0x236] = flags;
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
}

function choose(state: KvmState, word?: string, needs: Partial<EngineNeeds> = {}, env: NodeJS.ProcessEnv = {}) {
  return chooseEngine(word, env, { lacks: [], ...needs }, () => state);
}

describe('the engine in farbus status', () => {
  it('has the reason against KVM, unless the user named v86', () => {
    expect(engineText(choose(true))).toBe('kvm');
    expect(engineText(choose(none))).toBe(`v86: KVM cannot be used: ${none}`);
    expect(engineText(choose(true, undefined, { lacks: ['a screen'] }))).toBe(
      'v86: the KVM engine cannot do a screen yet',
    );
    expect(engineText(choose(true, 'v86'))).toBe('v86');
  });
});

describe('without a choice of the user', () => {
  it('is v86, without a word, where KVM cannot be used', () => {
    expect(choose(none)).toMatchObject({ name: 'v86', architecture: 'i386', why: undefined });
    expect(choose(none, undefined, { lacks: ['--debian 11'] }).why).toBeUndefined();
  });

  it('is KVM where it works', () => {
    expect(choose(true)).toMatchObject({ name: 'kvm', architecture: 'amd64', why: undefined });
    expect(choose(true, undefined, { kernel: kernel('64', 1), memory: 128 << 20 }).name).toBe('kvm');
  });

  it.each<[needs: Partial<EngineNeeds>, why: string]>([
    [{ lacks: ['--debian 11'] }, 'engine v86: the KVM engine cannot do --debian 11 yet'],
    [{ bios: true }, 'engine v86: a system that the firmware boots may need a screen, which KVM has not yet'],
    [{ kernel: kernel('32', 0) }, 'engine v86: the kernel is for 32-bit processors'],
    [{ kernel: '/nonexistent' }, 'engine v86: the kernel is for 32-bit processors'],
    [{ initrd: 'x' }, 'engine v86: the initramfs may be for 32-bit processors'],
    [{ memory: 64 << 20 }, 'engine v86: a 64-bit system needs 128M of memory'],
  ])('is v86 for %j, with a line where KVM works', (needs, why) => {
    expect(choose(true, undefined, needs)).toMatchObject({ name: 'v86', architecture: 'i386', why });
    expect(choose(none, undefined, needs)).toMatchObject({ name: 'v86', why: undefined });
  });

  it('tells why a computer cannot be so large', () => {
    const here = choose(none);
    expect(() => checkMachine(here, 2 ** 31, 1)).toThrow(
      'the v86 engine can have 1 GiB of memory: take less (KVM cannot be used: there is no /dev/kvm here)',
    );
    expect(() => checkMachine(here, 0, 2)).toThrow('(KVM cannot be used: there is no /dev/kvm here)');
    checkMachine(choose(true), 2 ** 31, 8);
  });
});

it('obeys the user, by option before FARBUS_ENGINE, and says what auto has chosen', () => {
  expect(choose(true, 'v86')).toMatchObject({ name: 'v86', why: undefined });
  expect(choose(true, undefined, {}, { FARBUS_ENGINE: 'v86' }).name).toBe('v86');
  expect(choose(true, 'kvm', { bios: true }, { FARBUS_ENGINE: 'v86' })).toMatchObject({ name: 'kvm', why: undefined });
  expect(choose(true, 'auto').why).toBe('engine kvm');
  expect(choose(none, 'auto').why).toBe(`engine v86, because KVM cannot be used: ${none}`);
  expect(() => choose(none, 'kvm')).toThrow(`KVM cannot be used: ${none}; --engine v86 works everywhere`);
  expect(() => choose(true, 'kvm', { lacks: ['--debian 11'] })).toThrow('the KVM engine cannot do --debian 11 yet');
  expect(() => choose(true, undefined, {}, { FARBUS_ENGINE: 'x' })).toThrow('FARBUS_ENGINE is "x"');
});

it('the line of the start says why a guest is emulated, if there is a KVM that cannot be used', () => {
  const refused = 'no permission for /dev/kvm: add yourself to the group kvm';
  expect(onEngine(choose(refused), true)).toBe(`on v86 (KVM cannot be used: ${refused})`);
  expect(onEngine(choose(none), false)).toBe('on v86');
  expect(onEngine(choose(true), true)).toBe('on KVM');
  // The user has chosen, or another line has said why.
  expect(onEngine(choose(refused, 'v86'), true)).toBe('on v86');
  expect(onEngine(choose(refused, 'auto'), true)).toBe('on v86');
  expect(onEngine(choose(true, undefined, { bios: true }), true)).toBe('on v86');
});

/**
 * System calls: one loader, and one switch that turns all of them off and on at any time; errors
 * of the kernel carry their code.
 */
import { spawnSync } from 'node:child_process';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { errnoOf } from '../../src/base/errors.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { bindOnce, koffi, requireKoffi } from '../../src/linux/koffi.node.js';
import { systemExit } from '../../src/linux/process.node.js';
import { AF_INET, SOCK_DGRAM, socketCalls, socketCallsIfAny } from '../../src/linux/sockets.node.js';
import { systemError } from '../../src/linux/system-error.node.js';
import { sandboxKind } from '../../src/protocol/qemu/sandbox/sandbox.node.js';
import { Uring } from '../../src/storage/uring.node.js';
import { hasKoffi } from '../support/koffi.js';

afterEach(() => vi.unstubAllEnvs());

describe('FARBUS_NO_KOFFI', () => {
  it('turns every topic off', () => {
    vi.stubEnv('FARBUS_NO_KOFFI', '1');
    expect([koffi(), fileCalls(), socketCallsIfAny(), systemExit(), Uring.here()]).toEqual(Array(5).fill(undefined));
    expect(() => requireKoffi('eth0')).toThrow('eth0: needs koffi, which FARBUS_NO_KOFFI turns off');
    expect(() => socketCalls('tap0')).toThrow('tap0: needs koffi, which FARBUS_NO_KOFFI turns off');
    expect(sandboxKind()).not.toBe('landlock');
  });

  it.skipIf(!hasKoffi)('leaves what was turned off available once it is unset', () => {
    vi.stubEnv('FARBUS_NO_KOFFI', '1');
    expect(Uring.here()).toBeUndefined();
    vi.stubEnv('FARBUS_NO_KOFFI', '');
    expect([koffi(), fileCalls(), socketCallsIfAny(), systemExit()].every((calls) => calls !== undefined)).toBe(true);
  });

  it.skipIf(process.platform !== 'linux')('keeps koffi from being loaded', () => {
    const look = `
      import('./dist/linux/koffi.node.js').then(({ koffi }) => {
        koffi();
        process.stdout.write(String(process.report.getReport().sharedObjects.some((path) => path.includes('koffi'))));
      });`;
    const loads = (value: string): string =>
      spawnSync(process.execPath, ['-e', look], { env: { ...process.env, FARBUS_NO_KOFFI: value } }).stdout.toString();
    expect(loads('1')).toBe('false');
    expect(loads('')).toBe(String(hasKoffi));
  });
});

it.skipIf(!hasKoffi)('a topic is absent if the C library lacks one of its calls', () => {
  const calls = bindOnce((native) => native.load(null).func('int no_such_call(int)'));
  expect([calls(), calls()]).toEqual([undefined, undefined]);
});

it('an error of a system call carries its code', () => {
  expect(systemError('open', 2)).toMatchObject({ message: 'open: ENOENT', code: 'ENOENT', errno: -2, syscall: 'open' });
});

it.skipIf(!hasKoffi)('a call that fails throws the error of the kernel', () => {
  const calls = socketCalls('test');
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  calls.close(fd);
  let code: string | undefined;
  try {
    calls.close(fd);
  } catch (error) {
    code = errnoOf(error);
  }
  expect(code).toBe('EBADF');
});

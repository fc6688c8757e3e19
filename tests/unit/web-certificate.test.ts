/** The generated certificate of the web server: the newest valid one is kept. */
import { afterEach, expect, it, vi } from 'vitest';
import { silent } from '../../src/base/log.js';
import { startWeb } from '../../src/app/web/serve.js';
import { tempFolder } from '../support/temp.js';

afterEach(() => void vi.useRealTimers());

it('is made anew once when it has expired, not at every later start', async () => {
  const env = { XDG_STATE_HOME: tempFolder() };
  const begin = Date.now();
  vi.useFakeTimers({ toFake: ['Date'] });
  const fingerprintAfter = async (days: number): Promise<string> => {
    vi.setSystemTime(begin + days * 86_400_000);
    const tls = { 'tls-verify-peer': false };
    const web = await startWeb({ at: '0.0.0.0:0', origins: [], tls, name: 'test', env, log: silent });
    web.close();
    return web.fingerprint!;
  };
  const first = await fingerprintAfter(0);
  expect(await fingerprintAfter(800)).toBe(first);
  const second = await fingerprintAfter(830);
  expect(second).not.toBe(first);
  expect(await fingerprintAfter(831)).toBe(second);
  const third = await fingerprintAfter(1700);
  expect(third).not.toBe(second);
  expect(await fingerprintAfter(1702)).toBe(third);
});

/** Access to exports by networks, names and tokens; and the control socket with arbitrary input. */
import { readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { Access, addressBytes, splitToken } from '../../src/export/access.js';
import { controlFolder } from '../../src/app/control/folder.js';
import { askControl } from '../../src/app/control/client.js';
import { serveControl } from '../../src/app/control/server.js';
import { tempFolder } from '../support/temp.js';

const client = (
  address: string | undefined,
  ...tlsNames: string[]
): { address: string | undefined; tlsNames: string[] } => ({
  address,
  tlsNames,
});

describe('access', () => {
  it.each([
    [
      '192.168.1.0/24',
      ['192.168.1.0', '192.168.1.255', '::ffff:192.168.1.7'],
      ['192.168.2.1', '10.0.0.1', '::1', undefined],
    ],
    ['10.1.2.3', ['10.1.2.3'], ['10.1.2.2', '10.1.2.4']],
    ['10.0.0.0/9', ['10.127.255.255'], ['10.128.0.0']],
    ['0.0.0.0/0', ['1.2.3.4', '::ffff:1.2.3.4'], ['::1', undefined]],
    ['::/0', ['::1', 'fe80::1%eth0'], ['1.2.3.4']],
    ['fd00::/8', ['fd12:3456::1', 'fdff::'], ['fe00::1', 'fc00::']],
    ['2001:db8:0:1::/63', ['2001:db8::1', '2001:db8:0:1:2:3:4:5'], ['2001:db8:0:2::']],
    ['unix', [undefined], ['127.0.0.1', '::1']],
  ])('from %s', (network, inside, outside) => {
    const access = new Access({ networks: [network] });
    for (const address of inside) expect(access.admits(client(address), undefined), String(address)).toBe(true);
    for (const address of outside) expect(access.admits(client(address), undefined), String(address)).toBe(false);
  });

  it('refuses malformed networks', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.4/33',
      '1.2.3.4/',
      '1.2.3.4/-1',
      '1.2.3.4/8/8',
      '256.1.1.1',
      ':::',
      '1::2::3',
      'fd00::/129',
      '12345::',
      'eth0',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '1:2:3:4::5:6:7:8',
      '::256.1.1.1',
    ]) {
      expect(() => new Access({ networks: [text] }), text).toThrow(FarbusError);
    }
    fc.assert(fc.property(fc.ipV4(), (text) => void expect(addressBytes(text)).toHaveLength(4)));
    fc.assert(fc.property(fc.ipV6(), (text) => void expect([4, 16]).toContain(addressBytes(text)?.length)));
    fc.assert(
      fc.property(fc.string(), (text) => {
        const bytes = addressBytes(text);
        expect(bytes === undefined || bytes.every((byte) => byte >= 0 && byte < 256)).toBe(true);
      }),
    );
  });

  it('needs one match of each kind of rule', () => {
    const access = new Access({
      networks: ['unix'],
      tlsNames: ['alice', 'bob'],
      tokens: ['0123456789abcdef', 'fedcba9876543210'],
    });
    expect(access.admits(client(undefined, 'carol', 'bob'), 'fedcba9876543210')).toBe(true);
    expect(access.admits(client('127.0.0.1', 'bob'), 'fedcba9876543210')).toBe(false);
    expect(access.admits(client(undefined, 'carol'), 'fedcba9876543210')).toBe(false);
    expect(access.admits(client(undefined), 'fedcba9876543210')).toBe(false);
    for (const token of [undefined, '', '0123456789abcde', '0123456789abcdef0', '0123456789abcdeF']) {
      expect(access.admits(client(undefined, 'alice'), token), String(token)).toBe(false);
    }
    expect(new Access({ networks: [] }).admits(client('1.2.3.4'), undefined)).toBe(false);
    expect(new Access().admits(client('1.2.3.4'), undefined)).toBe(true);
    expect(splitToken('a;token=b;token=c')).toEqual({ name: 'a;token=b', token: 'c' });
    expect(splitToken(';token=')).toEqual({ name: '', token: '' });
  });
});

describe('a control socket', () => {
  it('of a killed process is removed by the next process', async () => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    const folder = controlFolder(env);
    // No process has this id: it is above the kernel's limit.
    for (const name of ['serve-4999999.sock', `serve-${process.pid}.sock`, 'serve-1.sock', 'other']) {
      writeFileSync(join(folder, name), '');
    }
    const socket = await serveControl(`serve-${process.pid}`, () => Promise.resolve('yes'), env);
    expect(readdirSync(folder).sort()).toEqual(['other', 'serve-1.sock', `serve-${process.pid}.sock`].sort());
    expect(await askControl(socket.path, { command: 'x' })).toBe('yes');
    await socket.close();
  });

  it('answers requests, and survives any other bytes', async () => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    const socket = await serveControl(
      'serve-1',
      async ({ command }) => {
        if (command === 'fail') throw new FarbusError('it cannot be done');
        return Promise.resolve({ command });
      },
      env,
    );
    expect(readdirSync(controlFolder(env))).toEqual(['serve-1.sock']);
    expect(await askControl(socket.path, { command: 'x' })).toEqual({ command: 'x' });
    await expect(askControl(socket.path, { command: 'fail' })).rejects.toThrow('it cannot be done');
    const answers: string[] = [];
    for (const sent of [
      '\n',
      'null\n',
      '[]\n',
      '{"command":1}\n',
      '{'.repeat(100),
      `${'x'.repeat(70_000)}`,
      '{"command":"y"}\n{"command":"z"}\n',
    ]) {
      answers.push(
        await new Promise((resolve) => {
          const peer = connect(socket.path);
          let text = '';
          peer.on('data', (chunk: Buffer) => (text += chunk.toString()));
          peer.on('error', () => undefined);
          peer.on('close', () => resolve(text));
          peer.write(sent);
          if (!sent.includes('\n') && sent.length < 70_000) peer.end();
        }),
      );
    }
    for (const answer of answers.slice(0, 4)) expect(JSON.parse(answer)).toEqual({ error: expect.any(String) });
    expect(answers.slice(4)).toEqual(['', '', '{"result":{"command":"y"}}\n']);
    expect(await askControl(socket.path, { command: 'x' })).toEqual({ command: 'x' });
    await socket.close();
    await expect(askControl(socket.path, { command: 'x' })).rejects.toThrow(FarbusError);
    expect(readdirSync(controlFolder(env))).toEqual([]);
  });
});

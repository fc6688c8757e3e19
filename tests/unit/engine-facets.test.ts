/** Computers on an engine that lacks an optional facet (machine/engine.ts). */
import { expect, it } from 'vitest';
import { askComputer } from '../../src/app/computer/control.js';
import { SnapshotError } from '../../src/machine/snapshot.js';
import { bareComputer } from '../support/bare-computer.js';
import { registerComputer } from '../support/computer-control.js';
import { tempFolder, tempImage } from '../support/temp.js';

it('refuses a drive on the bus ide if the engine has no IDE controller', async () => {
  const made = bareComputer(`${tempImage(1 << 20)},bus=ide`);
  await expect(made).rejects.toThrow('this engine has no IDE controller');
});

it('refuses to save and restore if the engine has no snapshots', async () => {
  const { computer, close } = await bareComputer(tempImage(1 << 20));
  const snapshot = { key: 'k', drives: [], devices: [], engine: new Uint8Array() };
  await expect(computer.save('k')).rejects.toThrow(SnapshotError);
  await expect(computer.restore(snapshot, 'k')).rejects.toThrow('this engine has no snapshots');
  await close();
});

it('refuses pictures of its screen, keys and firmware if the engine has none', async () => {
  const { computer, close } = await bareComputer(tempImage(1 << 20));
  expect(computer.screen).toBeUndefined();
  const env = { XDG_RUNTIME_DIR: tempFolder() };
  const done = () => Promise.resolve('');
  const media = { drives: [], eject: done, insert: done, attach: done, detach: done };
  const end = await registerComputer('bare', computer, media, env);
  const ask = (command: string) => askComputer('bare', { command, text: 'x' }, { env, onWorking: () => undefined });
  await expect(ask('screenshot')).rejects.toThrow('this computer has no screen: its console is the serial port');
  await expect(ask('type')).rejects.toThrow('this computer takes no keys: its console is the serial port');
  expect(() => computer.bootFirmware()).toThrow('it has no firmware');
  await end();
  await close();
});

/** Computers on an engine that lacks an optional facet (machine/engine.ts). */
import { expect, it } from 'vitest';
import { SnapshotError } from '../../src/machine/snapshot.js';
import { bareComputer } from '../support/bare-computer.js';
import { tempImage } from '../support/temp.js';

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

/**
 * A program for the KVM lab: saves a computer with two processors while fio writes to its far disk,
 * ends it, and continues in a new computer until fio has verified what it wrote. The guest of the
 * first computer does not run again after the save, so that the disk is that of the snapshot.
 *
 * node kvm-snapshot-load.mjs DIST URI
 */
import { join } from 'node:path';

const [dist, uri] = process.argv.slice(2);
const load = (path) => import(join(dist, path));
const { chooseGuest, createComputer, startGuest } = await load('app/computer/start.js');
const { parseSource } = await load('app/source-text.js');
const { openSource } = await load('app/sources.js');
const { readSnapshot, writeSnapshot } = await load('machine/snapshot-file.node.js');

const file = '/run/load.snapshot';
const memory = 512 << 20;
const log = { log: () => undefined };
const job =
  'fio --name=load --filename=/mnt/data --size=12M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 ' +
  '--direct=1 --verify=crc32c --verify_fatal=1 --randseed=7 --fallocate=none';

async function machine(use) {
  const far = await openSource(parseSource(uri), { log });
  const computer = await createComputer([far], memory, { log, engine: 'kvm', processors: 2 });
  try {
    await use(computer);
  } finally {
    await computer.stop();
    await far.close();
  }
}

async function command(computer, text) {
  const { output, status } = await computer.console.run(text, 300_000);
  if (status !== 0) throw new Error(`${text}: ${output}`);
  return output;
}

await machine(async (computer) => {
  const guest = await chooseGuest({ log, architecture: 'amd64', tools: ['fio'] });
  await startGuest(computer, guest, undefined, memory);
  await command(computer, 'mkdir -p /mnt && mount /dev/nvme0n1 /mnt');
  await command(computer, `(${job} > /tmp/fio 2>&1; echo "fio status $?" >> /tmp/fio) > /dev/null 2>&1 &`);
  const { writes } = computer.counts.io;
  while (computer.counts.io.writes < writes + 500) await new Promise((resolve) => setTimeout(resolve, 20));
  computer.hold();
  await writeSnapshot(file, await computer.save('load'));
  console.log(`saved after ${computer.counts.io.writes - writes} writes`);
});
// A clock that stands still meanwhile is wrong afterwards.
await new Promise((resolve) => setTimeout(resolve, 10_000));
await machine(async (computer) => {
  const started = performance.now();
  await computer.restore(await readSnapshot(file), 'load');
  const seconds = () => Math.floor(Date.now() / 1000);
  const asked = seconds();
  const date = (await command(computer, 'date +%s')).trim();
  console.log(`clock: from ${asked} to ${seconds()}, in the guest ${date}`);
  const said = await command(computer, 'while ! grep "fio status" /tmp/fio; do sleep 1; done; nproc');
  console.log(`restored: ${said.trim().replaceAll('\n', ' ')}`);
  console.log(`continued ${computer.counts.io.writes} writes, ${Math.round(performance.now() - started)} ms`);
  await command(computer, 'umount /mnt');
});

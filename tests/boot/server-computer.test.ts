/**
 * The complete first embodiment ([SYS] fig. 1 to 12): a client and a server computer, each with an
 * unmodified operating system, on one Ethernet segment with large frames. It carries both the I/O
 * and the traffic between the operating systems.
 */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Steps, type Step } from '../../src/base/steps.js';
import { sleep } from '../../src/base/event-loop.js';
import { LeaseArbiter } from '../../src/block/filters/lease.js';
import {
  chooseGuest,
  createComputer,
  createServerComputer,
  memoryFor,
  startGuest,
  type Guest,
} from '../../src/app/computer/start.js';
import type { Computer } from '../../src/computer/computer.js';
import { SharedAdapter } from '../../src/computer/shared-adapter.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { parseMac } from '../../src/network/ethernet/mac.js';
import { initiatorClaim, targetClaim } from '../../src/protocol/aoe/claim.js';
import { connectAoe } from '../../src/protocol/aoe/initiator/initiator.js';
import { AoeCommand } from '../../src/protocol/aoe/spec.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { minFrame, putHeader } from '../../src/protocol/aoe/wire.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { openPath } from '../../src/storage/open.node.js';
import { tempFolder } from '../support/temp.js';
import { runner } from '../support/guest-commands.js';
import { sha256 } from '../support/sha256.js';

/** Time limit of a command in a guest, in ms: two guests run at once. */
const commandMs = 180_000;
/** Duration of the cut, in ms: longer than the time after which a target is considered gone. */
/** The test of a bad segment takes half a minute of computing: tests/conformance/aoe is shorter. */
const all = process.env['FARBUS_TEST_ALL'] !== undefined;
const cutMs = 30_000;
const memory = 128 << 20;
const diskSize = 32 << 20;
const log = { log: () => undefined };
const aoe = { shelf: 1, slot: 0 };
const macs = { client: parseMac('02:00:00:00:00:01')!, server: parseMac('02:00:00:00:00:02')! };
/** A station that is neither of the computers. */
const stranger = '02:00:00:00:00:09';
const addresses = { client: '192.0.2.1', server: '192.0.2.2' };

let folder: string;
let image: string;
let guests: { client: Guest; server: Guest };
const open: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = tempFolder();
  image = join(folder, 'device914.img');
  writeFileSync(image, '');
  truncateSync(image, diskSize);
  const choose = (who: 'client' | 'server', tools: string[]) =>
    chooseGuest({ log, network: true, append: `farbus.address=${addresses[who]}/24 farbus.hostname=${who}`, tools });
  guests = { client: await choose('client', []), server: await choose('server', ['tcpdump']) };
  await start();
  await closeAll();
}, 500_000);

afterEach(closeAll);
afterAll(closeAll);

describe('two computers on one segment', () => {
  it('use ping and TCP over the segment that carries the I/O, and see no frame of the hypervisors', async () => {
    const { client, server } = await start();
    const [one, two] = [runner(client, commandMs), runner(server, commandMs)];
    // An open input: at its end nc would close its side, and the sender would stop in the middle.
    await two('sleep 300 | nc -l -p 5000 > /tmp/got & sleep 0.2');
    const quiet = await received(server);
    const output = await one(
      'dd if=/dev/urandom of=/tmp/l bs=64k count=32 2>/dev/null; sha256sum /tmp/l; ' +
        '(dd if=/tmp/l of=/dev/nvme0n1 bs=64k oflag=direct conv=fsync 2>/dev/null; ' +
        'dd if=/dev/nvme0n1 bs=64k count=32 iflag=direct 2>/dev/null | sha256sum > /tmp/back; echo done > /tmp/done) & ' +
        'ping -c 10 -i 0.2 192.0.2.2; nc 192.0.2.2 5000 < /tmp/l; while ! test -f /tmp/done; do sleep 0.1; done; cat /tmp/back',
    );
    expect(output).toContain('10 packets received');
    const [sent, back] = [...output.matchAll(/([0-9a-f]{64})/g)].map(([hash]) => hash);
    expect(back).toBe(sent);
    expect(sha256(readFileSync(image).subarray(0, 2 << 20))).toBe(sent);
    expect(await two('sync; sha256sum /tmp/got')).toContain(sent);
    expect(await received(server)).toBeGreaterThan(quiet);
  });

  it('OS 2 sees no frame of a load', async () => {
    const { client, server } = await start();
    const [one, two] = [runner(client, commandMs), runner(server, commandMs)];
    await one('ping -c 1 192.0.2.2');
    const before = [await received(server), await received(client)];
    const frames = server.adapter!.counters.toHypervisor;
    await one('dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null');
    expect(server.adapter!.counters.toHypervisor - frames).toBeGreaterThan(400);
    // ARP may be renewed meanwhile. A load of hundreds of frames must not appear.
    expect((await received(server)) - before[0]!).toBeLessThan(5);
    expect((await received(client)) - before[1]!).toBeLessThan(5);
    expect(await two('cat /sys/class/net/eth0/statistics/rx_dropped')).toBe('0\n');
  });

  it('tcpdump on OS 2 captures the frames that OS 1 sends to it, and no frame of the load', async () => {
    const { hub, client, server } = await start();
    const [one, two] = [runner(client, commandMs), runner(server, commandMs)];
    await two(
      'tcpdump -i eth0 -n -U --immediate-mode -w /tmp/f 2>/tmp/e & echo $! > /tmp/pid; ' +
        'for i in $(seq 100); do ! grep listening /tmp/e || break; sleep 0.3; done; grep listening /tmp/e',
    );
    const frames = server.adapter!.counters.toHypervisor;
    await one(
      '(dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct; ' +
        'dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=16 oflag=direct conv=fsync; touch /tmp/used) 2>/dev/null & ' +
        'ping -c 10 -i 0.2 192.0.2.2; for i in $(seq 300); do ! test -f /tmp/used || break; sleep 0.2; done; test -f /tmp/used',
    );
    expect(server.adapter!.counters.toHypervisor - frames).toBeGreaterThan(500);
    // The request of a station that is not the hypervisor, for a target that the hypervisor does
    // not have. The reader finds such frames.
    const frame = new Uint8Array(minFrame);
    putHeader(frame, macs.server, parseMac(stranger)!, { shelf: 9, slot: 9, command: AoeCommand.config, tag: 1 });
    const port = hub.attach({ mac: parseMac(stranger)!, onFrame: () => undefined });
    expect(port.send(frame)).toBe(true);
    const count = async (filter: string): Promise<number> =>
      Number(await two(`tcpdump -r /tmp/f -n '${filter}' 2>/dev/null | wc -l`));
    await expect.poll(() => count(`ether proto 0x88a2 and ether src ${stranger}`), { timeout: 60_000 }).toBe(1);
    await two('p=$(cat /tmp/pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done');
    expect(await count('icmp[icmptype] == icmp-echo')).toBe(10);
    expect(await count('icmp[icmptype] == icmp-echoreply')).toBe(10);
    expect(await count('ether proto 0x88a2')).toBe(1);
    expect(await count('not ip and not ip6 and not arp')).toBe(1);
    expect(await two('cat /proc/net/packet | wc -l')).toBe('1\n'); // the head line alone
  }, 300_000);

  it('passes the steps of [SYS] fig. 9, 10 and 12 on the server, with the client’s tags', async () => {
    const steps: { client: Step[]; server: Step[] } = { client: [], server: [] };
    const { client, server } = await start({ steps });
    await runner(
      client,
      commandMs,
    )('ping -c 1 192.0.2.2; dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 skip=100 iflag=direct');
    await runner(client, commandMs)('dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 skip=100 oflag=direct');
    expect(server).toBeDefined();
    // Fig. 12. In addition, the hypervisor may have sent or received frames of its own.
    const boot = steps.server.filter(({ traceId, id }) => traceId === 0 && id.startsWith('34')).map(({ id }) => id);
    // Step 344 occurs twice: for the local disk, and for the device that it shares.
    expect(boot).toEqual(['341', '342', '343', '344', '344', '345', '346', '347', '348']);
    expect(steps.server.find(({ id }) => id === '348')!.detail).toMatch(/0xc[0-9a-f]{7}/);
    expect(steps.server.some(({ id }) => id === '289')).toBe(true);
    const clientBoot = steps.client
      .filter(({ traceId, id }) => traceId === 0 && id.startsWith('32'))
      .map(({ id }) => id);
    expect(clientBoot).toEqual(['321', '322', '323', '324', '325', '326']);

    // On a busy machine a frame may be sent again. Its copy arrives (280, 281) but is not executed,
    // so every other step must be there exactly once.
    const inOrder = (some: readonly Step[]): string[] =>
      some.map(({ id }) => id).filter((id, at, all) => !['280', '281'].includes(id) || all.indexOf(id) === at);
    const read = steps.client.find(({ id, detail }) => id === '261' && detail.startsWith('read (sector 800, 8 '))!;
    const message = steps.client.find(
      ({ traceId, id, wire }) => traceId === read.traceId && id === '262' && wire !== undefined,
    )!;
    const own = steps.server.filter(({ traceId }) => traceId === message.wire);
    expect(inOrder(own)).toEqual(['280', '281', '288', '282', '283', '284']);
    const write = steps.client.find(({ id, wire }) => id === '264' && wire !== undefined)!;
    const stored = steps.server.filter(({ traceId }) => traceId === write.wire);
    expect(inOrder(stored)).toEqual(['280', '281', '288', '285', '286', '287']);
  });

  it.runIf(all)(
    'a segment that loses, repeats and reorders frames, and is cut, only slows them down',
    async () => {
      const { hub, client } = await start();
      hub.faults({ loss: 0.1, duplication: 0.05, reordering: 0.1, reorderMs: 10 });
      const load = runner(
        client,
        commandMs,
      )(
        'dd if=/dev/urandom of=/tmp/l bs=64k count=8 2>/dev/null; ok=0; for i in 1 2 3 4 5 6 7 8; do ' +
          'dd if=/tmp/l of=/dev/nvme0n1 bs=64k seek=$((i*8)) oflag=direct conv=fsync 2>/dev/null && ' +
          'dd if=/dev/nvme0n1 of=/tmp/b bs=64k skip=$((i*8)) count=8 iflag=direct 2>/dev/null && ' +
          'cmp /tmp/l /tmp/b && ok=$((ok+1)); sleep 0.3; done; echo good $ok; sha256sum /tmp/l',
      );
      await sleep(2000);
      hub.cut = true;
      await sleep(cutMs);
      hub.cut = false;
      const output = await load;
      expect(output).toContain('good 8');
      expect(output).not.toContain('rror');
      const stored = readFileSync(image);
      for (let i = 1; i <= 8; i++) expect(output).toContain(sha256(stored.subarray(i << 19, (i + 1) << 19)));
    },
    200_000,
  );

  it('share a device by a lease: one writes, the other is refused', async () => {
    const { client, server, lease } = await start();
    const [one, two] = [runner(client, commandMs), runner(server, commandMs)];
    const write = (disk: string) => `dd if=/dev/urandom of=/dev/${disk} bs=4k count=1 seek=300 oflag=direct 2>&1`;
    await one(write('nvme0n1'));
    expect((await server.console.run(write('nvme1n1'))).status).not.toBe(0);
    const read = (disk: string) => `dd if=/dev/${disk} bs=4k count=1 skip=300 iflag=direct 2>/dev/null | sha256sum`;
    expect(await two(read('nvme1n1'))).toBe(await one(read('nvme0n1')));
    await lease.move('local');
    await two(write('nvme1n1'));
    expect((await client.console.run(write('nvme0n1'))).status).not.toBe(0);
    expect(await two(read('nvme1n1'))).toBe(await one(read('nvme0n1')));
    expect(await two('dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct 2>/dev/null; echo local')).toBe(
      'local\n',
    );
  });
});

interface StartOptions {
  readonly steps?: { readonly client: Step[]; readonly server: Step[] };
}

async function start(options: StartOptions = {}) {
  const hub = new Hub({ mtu: 9000 });
  open.push(() => hub.close());
  const recorder = (sink: Step[] | undefined): Steps => {
    const steps = new Steps();
    if (sink) steps.add({ step: (step) => sink.push(step) });
    return steps;
  };
  const steps = { client: recorder(options.steps?.client), server: recorder(options.steps?.server) };

  const adapter2 = new SharedAdapter(hub, { mac: macs.server, steps: steps.server });
  const device = await openPath(image, { exclusive: true });
  open.push(() => device.close());
  const lease = new LeaseArbiter(device, ['network', 'local']);
  const target = new AoeTarget(adapter2.share(targetClaim(1, 0)), lease.side('network'), {
    ...aoe,
    steps: steps.server,
  });
  open.push(() => target.close());
  const drives = [new MemoryDevice(8 << 20), lease.side('local')];
  const size = memoryFor(guests.server, undefined, memory);
  const server = await createServerComputer(drives, size, { log, steps: steps.server, adapter: adapter2 });
  open.push(() => server.stop());
  await startGuest(server, guests.server, join(folder, 'server.snapshot'), size);

  const adapter1 = new SharedAdapter(hub, { mac: macs.client, steps: steps.client });
  const disk = await connectAoe(adapter1.share(initiatorClaim(1, 0)), { ...aoe, log, steps: steps.client });
  open.push(() => disk.close());
  const client = await createComputer([disk], memory, { log, steps: steps.client, adapter: adapter1 });
  open.push(() => client.stop());
  await startGuest(client, guests.client, join(folder, 'client.snapshot'), memory);
  return { hub, client, server, lease };
}

async function closeAll(): Promise<void> {
  for (const close of open.splice(0).reverse()) await close();
}

/** The number of frames that an operating system's card has received. */
async function received(computer: Computer): Promise<number> {
  return Number(await runner(computer)('cat /sys/class/net/eth0/statistics/rx_packets'));
}

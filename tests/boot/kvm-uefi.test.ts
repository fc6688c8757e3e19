/**
 * A 64-bit computer that UEFI (Debian's OVMF, unmodified) boots from a far disk on the KVM engine:
 * the disk of `farbus guest-disk --arch amd64`, twice: from NVMe, then from AHCI, with a snapshot
 * of the whole system. A variable that the system sets is there at the second start. With `npm run
 * test:all`: it takes some minutes, twice as long on a busy machine.
 */
import { writeFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { login } from '../../src/guest/disk/configuration.js';
import { prepareUefi } from '../../src/guest/firmware.node.js';
import { farbusServe, stop, type Serving } from '../interop/nbd-target-farbus.js';
import { checkDisk } from '../support/guest-disk.js';
import { hostAddress, inKvmLab } from '../support/kvm-lab.js';
import { typing, type Answer } from '../support/lab-typing.js';
import { farbusHere } from '../support/screen-cli.js';
import { tempFolder } from '../support/temp.js';

const farbus = `node ${fileURLToPath(new URL('../../bin/farbus.js', import.meta.url))}`;
const all = process.env['FARBUS_TEST_ALL'] === '1';
const folder = tempFolder();
const image = join(folder, 'system.img');
const limitSeconds = 400;
const limitMs = 1_200_000;

const variable = (name: string) => `/sys/firmware/efi/efivars/${name}-7d4f1f0e-3f0b-4b57-9b3a-5d0d1c2b3a49`;
/** Kept over restarts, and visible to the booted system (UEFI 2.10, §8.2): attributes 7. */
const set = (name: string, value: string) => `printf "\\007\\000\\000\\000${value}" > ${variable(name)}`;
const show = (name: string) => `echo "${name} is $(cat ${variable(name)} | tail -c +5)"`;

const logIn: readonly Answer[] = [
  ['login: ', login.user],
  ['Password: ', login.password],
];

describe.runIf(all)('a computer with UEFI on KVM', () => {
  let output = '';
  let server: Serving | undefined;
  afterAll(() => server && stop(server));

  beforeAll(async () => {
    await prepareUefi();
    const { status, stderr } = await farbusHere(['guest-disk', '--arch', 'amd64', image], folder);
    expect(status, stderr).toBe(0);
    const data = join(folder, 'data.img');
    writeFileSync(data, '');
    truncateSync(data, 1 << 20);
    server = await farbusServe(['--listen', 'nbd://127.0.0.1:0', image, data], 2);
    const [system, other] = server.lines.map((line) => line.replace('127.0.0.1', hostAddress));
    // The variables are beside the overlay of the second drive.
    const second = `--drive ${other},overlay=/run/changes.img`;
    const first = [
      'echo platform $(cat /sys/firmware/efi/fw_platform_size), processors $(nproc)',
      "grep ' / ' /proc/mounts",
      set('First', 'kept'),
      show('First'),
      'seq 1 20000 > /root/numbers; mkdir /srv/made; sync; poweroff',
    ];
    const again = [show('First'), "grep ' / ' /proc/mounts", 'sync; echo boo""ted'];
    const restored = [
      show('First'),
      set('Second', 'new'),
      'seq 1 20000 | cmp - /root/numbers && echo sa""me; sync; poweroff',
    ];
    const ahci = `${farbus} run --uefi --memory 512M --drive ${system},bus=ahci ${second}`;
    const quoted = (commands: string[]) => commands.join('; ').replaceAll("'", `'\\''`);
    const script = [
      typing({
        name: 'nvme',
        command: `${farbus} run --engine kvm --uefi --cpus 2 --memory 512M --drive ${system} ${second}`,
        answers: [...logIn, ['# ', quoted(first)]],
        limitSeconds,
      }),
      typing({
        name: 'ahci',
        command: `${ahci} --name desk`,
        answers: [...logIn, ['# ', quoted(again)]],
        limitSeconds,
        later: {
          text: 'booted',
          commands: `${farbus} pause desk; ${farbus} snapshot desk /run/saved; ${farbus} stop desk`,
        },
      }),
      typing({
        name: 'restored',
        command: `${ahci} --snapshot /run/saved --snapshot-after never`,
        answers: [['# ', quoted(restored)]],
        limitSeconds,
      }),
      // Names are in UCS-2.
      'echo "kept $(tr -d \'\\0\' < /run/changes.img.uefi-vars | grep -aoE "First|Second" | sort -u | tr "\\n" " ")"',
    ].join('\n');
    const lab = await inKvmLab(script, limitMs - 60_000);
    console.log(lab.output);
    expect(lab.status, lab.output).toBe(0);
    // The shell sends escape sequences before a command's output.
    output = lab.output.replaceAll(/\x1b\[[0-9;?=]*[A-Za-z]/g, '');
  }, limitMs);

  const part = (name: string) => output.split(`--- ${name}\n`)[1]?.split('\n--- ')[0] ?? `not run: ${output}`;

  it('boots from NVMe up to a shell, with two processors, and switches off', () => {
    const said = part('nvme');
    expect(said).toMatch(/^platform 64, processors 2$/m);
    expect(said).toMatch(/^\/dev\/nvme0n1p1 \/ ext4 rw/m);
    expect(said).toMatch(/^First is kept$/m);
    expect(said).toMatch(/^status 0 /m);
  });

  it('boots from AHCI, and has the variable that its system set before', () => {
    const said = part('ahci');
    expect(said).toMatch(/^\/dev\/sda1 \/ ext4 rw/m);
    expect(said).toMatch(/^First is kept$/m);
  });

  it('continues from a snapshot, and keeps what it sets then', () => {
    const said = part('restored');
    expect(said).toMatch(/^First is kept$/m);
    expect(said).toMatch(/^same$/m);
    expect(said).toMatch(/^status 0 /m);
    expect(said).toMatch(/^kept First Second $/m);
  });

  it('leaves what this machine reads on the disk', () => checkDisk(image));
});

/**
 * A computer that a person boots on the console page of `farbus serve --web`: it mounts a far disk,
 * writes a file, and tools of the host find the file.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { startFarbus } from '../interop/farbus.js';
import { errorsOf, openBrowser } from '../support/chromium.js';
import { mouseRecord } from '../support/mouse-record.js';
import { tempImage } from '../support/temp.js';
import { touchesOf } from '../support/touches.js';

const MiB = 1 << 20;
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/**
 * Bytes of HTTP bodies that a console page and its workers have loaded, with the JavaScript of the
 * engine, which its worker loads, but without its WebAssembly and the guest's files.
 */
function loadedBytes(page: Page, token: string): Promise<number> {
  return page.evaluate(async (shown) => {
    const system = new URL('guest/system.json', location.href);
    const answer = await fetch(system, { headers: { authorization: `Bearer ${shown}` } });
    const { files } = (await answer.json()) as { files: { engine: string } };
    const engine = await fetch(new URL(files.engine, system), { method: 'HEAD' });
    const entries = (['navigation', 'resource'] as const).flatMap((type) => performance.getEntriesByType(type));
    const own = entries.filter(({ name }) => /^[/](assets[/].*)?$/.test(URL.parse(name)?.pathname ?? ''));
    return own.reduce(
      (sum, one) => sum + (one as PerformanceResourceTiming).encodedBodySize,
      Number(engine.headers.get('content-length')),
    );
  }, token);
}

async function type(page: Page, line: string, answer: RegExp): Promise<void> {
  await page.locator('.xterm-screen').click();
  await page.keyboard.type(`${line}\n`);
  await page.locator('.xterm-rows', { hasText: answer }).waitFor();
}

it('boots a Debian, which writes to the far disk; the flow has its commands with all times', async () => {
  const image = tempImage(32 * MiB);
  execFileSync('mkfs.ext4', ['-q', '-F', image], { env: admin });
  const server = startFarbus(
    'serve',
    '--listen',
    'nbd://127.0.0.1:0',
    '--web',
    '127.0.0.1:0',
    image,
    `other=${tempImage(MiB)}`,
  );
  const [address] = await server.printed(/http:\S+/);
  const browser = await openBrowser();
  const page = await browser.newPage();
  const errors = errorsOf(page);
  await page.goto(address);

  await page.getByRole('link', { name: 'Boot here' }).click();
  await page.getByRole('combobox', { name: 'Writes go' }).selectOption('far');
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByRole('status').getByText('running', { exact: true }).waitFor();
  // The guest's kernel finds the disk a moment after the start.
  await type(
    page,
    'until blockdev --getsize64 /dev/sda >/dev/null 2>&1; do sleep 1; done; echo there-$((6*7))',
    /there-42/,
  );
  // Charts and a terminal are there now; what only lending needs is not loaded.
  const bytes = await loadedBytes(page, address.split('#token=')[1]!);
  expect(bytes).toBeGreaterThan(200_000);
  expect(bytes).toBeLessThan(300_000);
  await type(page, 'mount /dev/sda /mnt && echo far-$((6*7)) >/mnt/file && sync && cat /mnt/file', /far-42/);

  // The server knows the computer by its name from its first command.
  await page.getByRole('link', { name: 'Devices' }).click();
  await page.getByRole('cell', { name: /^Computer 1 \(127\.0\.0\.1:\d+\)/ }).waitFor();
  await page.getByRole('link', { name: 'The flow' }).click();
  await page.locator('tbody tr', { hasText: 'Computer 1' }).first().waitFor();
  expect(await page.locator('tbody tr', { hasText: '127.0.0.1' }).count()).toBe(0);
  await page.getByRole('link', { name: 'Computers' }).click();
  // The flow is watched while it is shown, so the guest writes in the background.
  const loop = 'for i in 1 2 3 4 5 6; do sleep 1; echo $i >>/mnt/file; sync; done; echo all-$((2*21))';
  await type(page, `(${loop}) & echo begun-$((6*7))`, /begun-42/);
  await page.getByRole('link', { name: 'The flow' }).click();
  const write = page.locator('tbody tr', { hasText: 'Computer 1' }).filter({ hasText: 'write' });
  // "Real disk" and "Whole way": both computers have seen it.
  await write
    .filter({ hasText: /ms.*ms/ })
    .first()
    .waitFor();
  await page.getByText('Trap and hypervisor').waitFor();
  await page.getByText('Back to the driver').waitFor();

  await page.getByRole('link', { name: 'Computers' }).click();
  await page.locator('.xterm-rows', { hasText: 'all-42' }).waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
  await type(page, 'umount /mnt && echo gone-$((3*14))', /gone-42/);
  await page.getByRole('button', { name: 'Detach disk.img' }).click();
  await page.getByText('disk.img is detached.').waitFor();
  // A drive with an overlay has a cache, unless the page says why not.
  await page.getByRole('button', { name: 'Attach a drive' }).click();
  await page.getByRole('combobox', { name: 'New drive' }).selectOption('other');
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await page.getByText('other is attached.').waitFor();
  expect(await page.getByText('read without a cache').count()).toBe(0);
  expect(errors).toEqual([]);
  await page.getByRole('button', { name: 'Switch off' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Switch off' }).click();
  await page.getByText('No computer runs now.').waitFor();
  await page.getByRole('link', { name: 'Boot here' }).click();
  await page.getByText('Caches of one far disk').waitFor();
  await page.getByRole('button', { name: 'Remove the caches' }).click();
  await page.getByText('The caches are removed.').waitFor();
  await page.getByText('Caches of one far disk').waitFor({ state: 'detached' });
  await page.close();

  server.child.kill('SIGTERM');
  await server.ended;
  execFileSync('e2fsck', ['-fn', image], { env: admin });
  const file = execFileSync('debugfs', ['-R', 'cat /file', image], { env: admin, stdio: ['ignore', 'pipe', 'ignore'] });
  expect(file.toString()).toBe('far-42\n1\n2\n3\n4\n5\n6\n');
}, 600_000);

/** Sums the packets of a PS/2 mouse with a wheel: movements, and the buttons in their order. */
function packetsOf(bytes: readonly number[]): { x: number; y: number; wheel: number; buttons: string } {
  const all = { x: 0, y: 0, wheel: 0, buttons: '' };
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const [flags = 0, x = 0, y = 0, wheel = 0] = bytes.slice(at, at + 4);
    all.x += x - ((flags & 0x10) << 4);
    all.y -= y - ((flags & 0x20) << 3);
    all.wheel += (wheel << 24) >> 24;
    const buttons = String(flags & 7);
    if (!all.buttons.endsWith(buttons)) all.buttons += buttons;
  }
  return all;
}

it('a finger on the screen is the mouse of a computer in the tab: its guest reads the packets', async () => {
  const image = tempImage(1 << 20);
  writeFileSync(image, mouseRecord('ready'));
  const server = startFarbus('serve', '--listen', 'nbd://127.0.0.1:0', '--web', '127.0.0.1:0', `tiny=${image}`);
  const [address] = await server.printed(/http:\S+/);
  const page = await (await openBrowser()).newPage();
  const errors = errorsOf(page);
  // Every byte that the guest writes to its serial port.
  await page.addInitScript(() => {
    const written: number[] = [];
    const Own = Worker;
    const Watched = class extends Own {
      constructor(url: string | URL, options?: WorkerOptions) {
        super(url, options);
        this.addEventListener('message', ({ data }: MessageEvent<{ event?: string; value: Uint8Array }>) => {
          if (data.event === 'serial') written.push(...data.value);
        });
      }
    };
    Object.assign(globalThis, { Worker: Watched, written });
  });
  const written = (): Promise<number[]> =>
    page.evaluate(() => (globalThis as unknown as { written: number[] }).written);
  await page.goto(address);
  await page.setViewportSize({ width: 390, height: 844 });
  const touches = await touchesOf(page);
  await page.getByRole('link', { name: 'Boot' }).click();
  await page.getByRole('radio', { name: /^The system on the first drive/ }).check();
  await page.getByRole('button', { name: 'Start' }).click();
  await expect.poll(async () => String.fromCharCode(...(await written())), { timeout: 120_000 }).toContain('ready');
  const packets = async (): Promise<ReturnType<typeof packetsOf>> => {
    const bytes = await written();
    return packetsOf(bytes.slice(String.fromCharCode(...bytes).indexOf('ready') + 'ready'.length));
  };
  const screen = page.getByRole('application', { name: 'Screen of Computer 1' });
  const canvas = screen.locator('canvas');
  await canvas.scrollIntoViewIfNeeded();
  const box = (await canvas.boundingBox())!;
  const scale = (await canvas.evaluate((one) => (one as HTMLCanvasElement).width)) / box.width;
  const finger = { x: box.x + 60, y: box.y + 60 };
  await touches.tap([finger]);
  await expect.poll(() => screen.evaluate((one) => one === document.activeElement)).toBe(true);
  await touches.drag([finger], { x: 80, y: -20 });
  await expect.poll(async () => Math.abs((await packets()).x - 80 * scale), { timeout: 60_000 }).toBeLessThanOrEqual(1);
  await expect.poll(async () => Math.abs((await packets()).y + 20 * scale), { timeout: 60_000 }).toBeLessThanOrEqual(1);
  await touches.drag([finger, { x: finger.x + 50, y: finger.y }], { x: 0, y: 50 });
  await expect.poll(async () => (await packets()).wheel, { timeout: 60_000 }).toBe(-1);
  expect((await packets()).buttons).toBe('0');
  await touches.tap([finger]);
  await expect.poll(async () => (await packets()).buttons, { timeout: 60_000 }).toBe('010');
  expect(errors).toEqual([]);
  await page.close();
  server.child.kill('SIGTERM');
  await server.ended;
}, 600_000);

/**
 * The console page of `farbus serve --web` in Chromium, used as a person uses it: what it shows,
 * what can be done with it, and what it says when something is missing.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import { consoleStream } from '../../src/app/control/console.js';
import { register, type Registration } from '../../src/app/control/registry.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { startFarbus, type Started } from '../interop/farbus.js';
import { errorsOf, openBrowser } from '../support/chromium.js';
import { touchesOf, type Finger } from '../support/touches.js';
import { tempFolder, tempImage } from '../support/temp.js';

const MiB = 1 << 20;
const sections = ['devices', 'computers', 'flow', 'boot', 'lend'] as const;
const sizes = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } } as const;
/** The folder for pictures of all sections; set it to keep them. */
const pictures = process.env['FARBUS_TEST_PICTURES'] ?? tempFolder();
const axe = readFileSync(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8');

interface Serving {
  readonly process: Started;
  /** The address that it prints, with its token. */
  readonly address: string;
  readonly nbd: string;
}

async function serve(image: string, web: string, ...more: readonly string[]): Promise<Serving> {
  const listen = ['--listen', 'nbd://127.0.0.1:0', '--web', web];
  const process = startFarbus('serve', ...listen, '--one-writer', ...more, `disk.img=${image}`, 'cd=,removable');
  const [address] = await process.printed(/http:\S+/);
  const [nbd] = await process.printed(/nbd:\S+disk\.img/);
  return { process, address, nbd };
}

async function stop({ process }: Serving): Promise<void> {
  process.child.kill('SIGTERM');
  await process.ended;
}

let browser: BrowserContext;
let serving: Serving;
let errors: string[];
let page: Page;

beforeAll(async () => {
  mkdirSync(pictures, { recursive: true });
  browser = await openBrowser();
  serving = await serve(tempImage(64 * MiB), '127.0.0.1:0');
});
afterAll(() => stop(serving));

async function open(address = serving.address): Promise<Page> {
  page = await browser.newPage();
  errors = errorsOf(page);
  await page.goto(address);
  return page;
}

afterEach(() => page.close());

async function go(section: (typeof sections)[number]): Promise<void> {
  await page.locator(`nav a[href="#/${section}"]`).click();
  // The link and the section are drawn together.
  await page.locator(`nav a[href="#/${section}"][aria-current="page"]`).waitFor();
}

describe('devices', () => {
  it('shows the exports with their users and live curves, and moves the right to write', async () => {
    await open();
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
    const first = await openNbd(serving.nbd);
    const second = await openNbd(serving.nbd);
    try {
      const user = page.locator('tbody tr');
      await user.nth(1).waitFor();
      await first.write(0, new Uint8Array(MiB));
      await page
        .locator('.plot-curve', { hasText: /written [^0]/ })
        .first()
        .waitFor();
      await page.getByRole('button', { name: /^Give / }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Give it' }).click();
      await page.getByText(/may write now\./).waitFor();
      await expect(first.write(0, new Uint8Array(4096))).rejects.toThrow();
    } finally {
      await first.close();
      await second.close();
    }
    await page
      .locator('section', { has: page.getByRole('heading', { name: 'disk.img' }) })
      .getByText('No computer')
      .waitFor();
    expect(errors).toEqual([]);
  });
});

describe('the flow', () => {
  it('plays a command in the picture, filters the table, and saves it', async () => {
    await open();
    await go('flow');
    await page.getByText('There has been no command yet.').waitFor();
    const disk = await openNbd(serving.nbd);
    try {
      await disk.read(8 * MiB, new Uint8Array(8192));
      await disk.write(0, new Uint8Array(4096));
      await page.locator('tbody tr', { hasText: 'read' }).filter({ hasText: '8,388,608' }).waitFor();
      // The leg of the disk lights up.
      await page.locator('.picture .leg.lit').first().waitFor({ state: 'attached' });
      await page.getByRole('combobox', { name: 'Command' }).selectOption('write');
      await expect.poll(() => page.locator('tbody tr', { hasText: 'read' }).count()).toBe(0);
      const row = page.locator('tbody tr', { hasText: 'write' }).first();
      await row.getByRole('button', { name: /^Show the write/ }).click();
      await page.getByRole('button', { name: 'Follow the newest' }).waitFor();
      await expect.poll(() => page.locator('.tag.way').textContent()).toMatch(/^write on disk\.img, /);
      const [file] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('button', { name: 'Save as CSV' }).click(),
      ]);
      const lines = readFileSync(await file.path(), 'utf8')
        .trim()
        .split('\r\n');
      expect(lines[0]).toMatch(/^began,command,disk,/);
      expect(lines.slice(1).every((line) => line.includes(',write,disk.img,127.0.0.1:'))).toBe(true);
      expect(lines.length).toBeGreaterThan(1);
    } finally {
      await disk.close();
    }
    expect(errors).toEqual([]);
  });
});

describe('computers', () => {
  let computer: Registration;
  const typed: string[] = [];
  const feed = new ConsoleFeed();
  const requests: object[] = [];
  const moves: { x: number; y: number; wheel: number; buttons: number }[] = [];
  let state = 'running';
  const drives = [
    { drive: 0, kind: 'disk', source: 'nbd://127.0.0.1/a-disk-with-a-long-name-of-a-far-server.img', can: 'detach' },
    { drive: 1, kind: 'cdrom', can: 'insert' },
    { drive: 2, kind: 'disk', source: 'memory:1M' },
  ];

  beforeAll(async () => {
    const facts = { uses: ['nbd://127.0.0.1/disk.img'], reach: [] };
    computer = await register(
      { kind: 'computer', name: 'desk', usual: 'desk', env: process.env, end: () => undefined },
      { ...facts, state },
    );
    const picture = readFileSync(new URL('../../docs/images/diskless.png', import.meta.url)).toString('base64');
    computer.serve(
      async ({ command, ...rest }) => {
        if (command === 'abilities') return ['screen', 'keys', 'mouse', 'pause', 'snapshot', 'media', 'attach'];
        if (command === 'drives') return drives;
        if (command === 'screenshot') return { png: picture, text: ['login:'] };
        if (command === 'type') return { typed: typed.push(String(rest['text'])) };
        if (command === 'mouse') return { moved: moves.push(rest as never) };
        if (command === 'console') return consoleStream(feed, (bytes) => feed.add(bytes));
        requests.push({ command, ...rest });
        if (command === 'pause') state = 'paused';
        if (command === 'resume') state = 'running';
        return command === 'snapshot' ? { done: 'saved to /state/desk.snapshot' } : {};
      },
      () => ({ ...facts, state }),
    );
  });
  afterAll(() => computer.close());

  it('has a terminal, in colours, and a screen that takes keys and the mouse', async () => {
    await open();
    await go('computers');
    const desk = page.locator('section', { has: page.getByRole('heading', { name: 'desk' }) });
    await desk.getByRole('button', { name: 'Terminal' }).click();
    await desk.locator('.xterm-screen').waitFor();
    await page.keyboard.type('hello');
    await desk.locator('.xterm-rows', { hasText: 'hello' }).waitFor();
    feed.add(new TextEncoder().encode('\x1b[38;2;200;100;250mviolet\x1b[0m'));
    const violet = desk.locator('.xterm-rows span', { hasText: 'violet' });
    await expect.poll(() => violet.evaluate((span) => getComputedStyle(span).color)).toBe('rgb(200, 100, 250)');
    await page.keyboard.press('Control+]');
    expect(await desk.locator('.xterm').evaluate((one) => one.contains(document.activeElement))).toBe(false);

    await desk.getByRole('button', { name: 'Screen' }).click();
    await desk.locator('img').waitFor();
    await desk.getByRole('application').click();
    await page.keyboard.type('a<');
    await page.keyboard.press('Control+c');
    await page.keyboard.press('Enter');
    await expect.poll(() => typed.join('')).toBe('a<lt><ctrl-c><enter>');

    // The mouse moves by pixels of the guest; its buttons and its wheel follow.
    const shown = (await desk.locator('img').boundingBox())!;
    const scale = (await desk.locator('img').evaluate((img) => (img as HTMLImageElement).naturalWidth)) / shown.width;
    await page.mouse.move(shown.x + 20, shown.y + 20);
    await page.mouse.down({ button: 'right' });
    await page.mouse.up({ button: 'right' });
    // Movements are sent one after the other, so these two are the last so far.
    await expect.poll(() => moves.slice(-2).map(({ buttons }) => buttons)).toEqual([2, 0]);
    moves.length = 0;
    await page.mouse.move(shown.x + 120, shown.y + 70);
    await page.mouse.wheel(0, 200);
    await expect.poll(() => moves.reduce((sum, { wheel }) => sum + wheel, 0)).toBe(2);
    const sum = (of: 'x' | 'y'): number => moves.reduce((all, move) => all + move[of], 0);
    expect(Math.abs(sum('x') - 100 * scale)).toBeLessThanOrEqual(1);
    expect(Math.abs(sum('y') - 50 * scale)).toBeLessThanOrEqual(1);
    expect(errors).toEqual([]);
  });

  it('takes fingers on its screen as a mouse, once the screen was tapped', async () => {
    await open();
    await page.setViewportSize(sizes.phone);
    const touches = await touchesOf(page);
    await go('computers');
    const desk = page.locator('section', { has: page.getByRole('heading', { name: 'desk' }) });
    await desk.getByRole('button', { name: 'Screen' }).click();
    const img = desk.locator('img');
    await img.scrollIntoViewIfNeeded();
    await desk.getByText('fingers on it are its mouse').waitFor();
    const box = (await img.boundingBox())!;
    const scale = (await img.evaluate((one) => (one as HTMLImageElement).naturalWidth)) / box.width;
    const at = (x: number, y: number): Finger => ({ x: box.x + x, y: box.y + y });
    moves.length = 0;

    // The first tap is for the page: it gives the screen the focus.
    await touches.tap([at(40, 40)]);
    await expect.poll(() => desk.getByRole('application').evaluate((one) => one === document.activeElement)).toBe(true);
    await touches.tap([at(40, 40), at(90, 40)]);
    await expect.poll(() => moves.map(({ buttons }) => buttons)).toEqual([2, 0]);

    const before = await page.evaluate(() => scrollY);
    const sum = (of: 'x' | 'y' | 'wheel'): number => moves.reduce((all, move) => all + move[of], 0);
    moves.length = 0;
    await touches.drag([at(40, 60)], { x: 60, y: 30 });
    await expect.poll(() => Math.abs(sum('x') - 60 * scale)).toBeLessThanOrEqual(1);
    await expect.poll(() => Math.abs(sum('y') - 30 * scale)).toBeLessThanOrEqual(1);
    expect(moves.every(({ buttons, wheel }) => buttons === 0 && wheel === 0)).toBe(true);
    moves.length = 0;
    await touches.drag([at(40, 120), at(100, 120)], { x: 0, y: -90 });
    await expect.poll(() => sum('wheel')).toBe(2);
    expect([sum('x'), sum('y')]).toEqual([0, 0]);
    moves.length = 0;
    // A tap is the last, as a touch at once after it would hold the button.
    await touches.tap([at(40, 40)]);
    await expect.poll(() => moves.map(({ buttons }) => buttons)).toEqual([1, 0]);
    // The page has not scrolled meanwhile.
    expect(await page.evaluate(() => scrollY)).toBe(before);
    expect(errors).toEqual([]);
  });

  it('is paused, saved and given drives, also on a phone; it asks before data can be lost', async () => {
    await open();
    await page.setViewportSize(sizes.phone);
    await go('computers');
    const desk = page.locator('section', { has: page.getByRole('heading', { name: 'desk' }) });
    await desk.getByRole('button', { name: 'Pause' }).click();
    await desk.getByText('paused', { exact: true }).waitFor();
    await desk.getByRole('button', { name: 'Save a snapshot' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    await desk.getByRole('button', { name: 'Save a snapshot' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Save a snapshot' }).click();
    await desk.getByText('The snapshot is: saved to /state/desk.snapshot').waitFor();
    await desk.getByRole('button', { name: 'Continue' }).click();
    await desk.getByText('running', { exact: true }).waitFor();
    await desk.getByRole('button', { name: 'Detach' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Detach' }).click();
    await desk.getByText('The disk is detached.').waitFor();
    await desk.getByRole('combobox', { name: 'For drive 1' }).selectOption('disk.img');
    await desk.getByRole('button', { name: 'Insert' }).click();
    await desk.getByText('The medium is inserted.').waitFor();
    // One of farbus run does not start anew.
    expect(await desk.getByRole('button', { name: /^(Reset|Start)$/ }).count()).toBe(0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    await page.screenshot({ path: join(pictures, 'computers-desk-phone.png'), fullPage: true });
    expect(requests).toMatchObject([
      { command: 'pause' },
      { command: 'snapshot' },
      { command: 'resume' },
      { command: 'detach', drive: 0 },
      { command: 'insert', drive: 1, source: serving.nbd },
    ]);
    expect(errors).toEqual([]);
  });
});

describe('a computer of a site that crashes when it is started', () => {
  it('says why, and no longer that it starts', async () => {
    const detail = 'its process ended by itself: SIGSEGV';
    const facts = { state: 'running', uses: [], reach: [] };
    const computers = [{ name: 'box', state: 'crashed', detail, uses: [], reach: [] }];
    const site = await register(
      { kind: 'site', name: 'lab', usual: 'lab', env: process.env, end: () => undefined },
      { ...facts, computers },
    );
    let started = 0;
    site.serve(
      ({ command }) => Promise.resolve(command === 'start-computer' ? { started: ++started } : {}),
      () => ({ ...facts, computers }),
    );
    try {
      await open();
      await go('computers');
      const box = page.locator('section', { has: page.getByRole('heading', { name: 'lab/box' }) });
      await box.getByText(detail).waitFor();
      const start = box.getByRole('button', { name: 'Start' });
      await start.click();
      await expect.poll(() => started).toBe(1);
      await box.getByText('Starting lab/box').waitFor({ state: 'detached' });
      expect(await box.getByText('lab/box starts.').count()).toBe(0);
      await box.getByText(detail).waitFor();
    } finally {
      await site.close();
    }
    expect(errors).toEqual([]);
  });
});

describe('lend a file', () => {
  it('makes a picked file an export of the server, and ends it', async () => {
    const content = randomBytes(3 * MiB);
    const file = tempImage(content, 'picked.iso');
    const past = new Date(Date.now() - 3_600_000);
    utimesSync(file, past, past);
    await open();
    await go('lend');
    await page.getByLabel('Disk image or ISO file').setInputFiles(file);
    await page.getByRole('button', { name: 'Lend', exact: true }).click();
    const lent = page.locator('section', { has: page.getByRole('heading', { name: 'picked.iso' }) });
    await lent.getByText('lent', { exact: true }).waitFor();
    const uri = await lent.locator('.code').first().textContent();
    expect(uri).toBe(serving.nbd.replace('disk.img', 'picked.iso'));
    const disk = await openNbd(uri!);
    const read = new Uint8Array(content.length);
    await disk.read(0, read);
    await disk.close();
    expect(Buffer.from(read).equals(content)).toBe(true);
    // The size, and the bytes read: more, if a lost connection has repeated a read.
    await lent
      .getByText(/^(?:[3-9]|\d\d)\.\d MiB$/)
      .nth(1)
      .waitFor();
    await lent.getByRole('button', { name: 'Stop lending' }).click();
    await lent.waitFor({ state: 'detached' });
    await expect(openNbd(uri!)).rejects.toThrow();
    expect(errors).toEqual([]);
  });
});

describe('every section', () => {
  it.each(Object.keys(sizes) as (keyof typeof sizes)[])(
    'fits and is accessible, in light and dark: %s',
    async (size) => {
      await open();
      await page.setViewportSize(sizes[size]);
      await page.evaluate(axe);
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        for (const section of sections) {
          await go(section);
          await page.locator('main h1').waitFor();
          await page.screenshot({ path: join(pictures, `${section}-${size}-${colorScheme}.png`), fullPage: true });
          expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
          const found = await page.evaluate(async () => {
            const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } };
            return (await axe.run()).violations.map(({ id, impact, nodes }) => ({
              id,
              impact,
              at: nodes.map(({ html }) => html.slice(0, 200)),
            }));
          });
          expect(found.filter(({ impact }) => impact === 'serious' || impact === 'critical')).toEqual([]);
        }
      }
      expect(errors).toEqual([]);
    },
  );

  it('can be chosen by keyboard only, and then has the focus', async () => {
    await open();
    await page.getByRole('heading', { name: 'Devices' }).waitFor();
    await page.keyboard.press('Tab');
    expect(await focused()).toBe('Skip to the section');
    for (const name of ['Devices', 'Computers', 'The flow']) {
      await page.keyboard.press('Tab');
      expect(await focused()).toBe(name);
    }
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'The flow' }).waitFor();
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('main');
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.querySelector('main')!.contains(document.activeElement))).toBe(true);
  });

  it('is light or dark as the user chooses, also after a reload', async () => {
    await open();
    const ground = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await ground();
    await page.getByRole('button', { name: 'Colours: system' }).click();
    expect(await ground()).not.toBe(dark);
    await page.reload();
    await page.getByRole('button', { name: 'Colours: light' }).waitFor();
    expect(await ground()).not.toBe(dark);
  });
});

describe('the first load', () => {
  it('is less than 300 KB compressed, and only from the server', async () => {
    page = await browser.newPage();
    const addresses: string[] = [];
    page.on('request', (request) => addresses.push(request.url()));
    await page.goto(serving.address);
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
    const { origin } = new URL(serving.address);
    expect(addresses.filter((address) => new URL(address).origin !== origin)).toEqual([]);
    const folder = fileURLToPath(new URL('../../dist/web/page', import.meta.url));
    const files = addresses.map((address) => new URL(address).pathname).filter((path) => !path.startsWith('/api/'));
    const bytes = files.map((path) => gzipSync(readFileSync(join(folder, path === '/' ? 'index.html' : path))).length);
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(300_000);
  });

  it('takes the token out of the address bar', async () => {
    await open();
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
    expect(page.url()).not.toContain('token');
    await page.reload();
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
  });
});

describe('a page that lacks something says what to do', () => {
  it('without a token, or with a wrong one, it takes the address that the server printed', async () => {
    await open(new URL(serving.address).origin);
    await page.getByRole('heading', { name: 'A token is needed' }).waitFor();
    const field = page.getByLabel('Address or token');
    await field.fill('no-token-of-this-server');
    await field.press('Enter');
    await page.getByRole('heading', { name: 'This token is not valid' }).waitFor();
    await field.fill(serving.address);
    await field.press('Enter');
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
  });

  it('without WebAssembly, it says so instead of offering a computer', async () => {
    page = await browser.newPage();
    await page.addInitScript(() => Reflect.deleteProperty(globalThis, 'WebAssembly'));
    await page.goto(serving.address);
    await go('boot');
    await page.getByText('This browser does not run WebAssembly').waitFor();
    expect(await page.getByRole('button', { name: 'Start' }).count()).toBe(0);
  });

  it('without private storage and a picker for writing, it offers no overlay, no disk, no writing', async () => {
    page = await browser.newPage();
    await page.addInitScript(() => {
      Reflect.deleteProperty(StorageManager.prototype, 'getDirectory');
      Reflect.deleteProperty(globalThis, 'showOpenFilePicker');
    });
    await page.goto(serving.address);
    await go('boot');
    await page.getByText('This browser has no storage for overlays here').waitFor();
    expect(await page.getByLabel('Writes go').locator('option').allTextContents()).not.toContain(
      'to an overlay in this browser',
    );
    await go('lend');
    await page.getByText('This browser has no storage for disks here').waitFor();
    expect(await page.getByRole('button', { name: 'Make the disk' }).count()).toBe(0);
    expect(await page.getByLabel('let others write to it').count()).toBe(0);
  });

  it('goes on by itself when the server is back', async () => {
    const image = tempImage(4 * MiB);
    const first = await serve(image, '127.0.0.1:0');
    await open(first.address);
    await page.getByRole('heading', { name: 'disk.img' }).waitFor();
    await stop(first);
    const gone = page.getByText('The server does not answer');
    await gone.waitFor();
    const second = await serve(image, new URL(first.address).host);
    try {
      await gone.waitFor({ state: 'detached' });
      const disk = await openNbd(second.nbd);
      await page.locator('tbody tr').first().waitFor();
      await disk.close();
    } finally {
      await stop(second);
    }
  });
});

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string }[];
}

/** The text of the element with the focus. */
function focused(): Promise<string | undefined> {
  return page.evaluate(() => document.activeElement?.textContent ?? undefined);
}

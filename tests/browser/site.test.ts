/**
 * A real site of `farbus up --web` in Chromium: the page shows its computer's terminal, takes a
 * command, pauses, saves and restarts the computer.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Tokens } from '../../src/web/server/tokens.node.js';
import { startFarbus } from '../interop/farbus.js';
import { errorsOf, openBrowser } from '../support/chromium.js';
import { tempFolder } from '../support/temp.js';

it('shows the computer of a site, types a command, and pauses, saves, restarts and ends it', async () => {
  const file = join(tempFolder(), 'page-site.yaml');
  writeFileSync(file, 'computers: { desk: { role: client, engine: v86, drives: ["memory:1M"] } }\n');
  const site = startFarbus('up', file, '--web=127.0.0.1:0');
  const [address] = await site.printed(/http:\S+/);
  const browser = await openBrowser();
  const page = await browser.newPage();
  const errors = errorsOf(page);
  await page.goto(address);
  await page.getByRole('link', { name: 'Computers' }).click();
  const desk = page.locator('section', { has: page.getByRole('heading', { name: 'page-site/desk' }) });
  await desk.getByText('running', { exact: true }).waitFor({ timeout: 400_000 });
  await desk.getByRole('button', { name: 'Terminal' }).click();
  await desk.locator('.xterm-screen').click();
  await page.keyboard.type('echo typed-$((6*7))\n');
  await desk.locator('.xterm-rows', { hasText: 'typed-42' }).waitFor();

  await desk.getByRole('button', { name: 'Pause' }).click();
  await desk.getByText('paused', { exact: true }).waitFor();
  // Keys that are typed now reach the guest when it goes on.
  await desk.locator('.xterm-screen').click();
  await page.keyboard.type('echo later-$((6*7))\n');
  await desk.getByRole('button', { name: 'Save a snapshot' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Save a snapshot' }).click();
  const saved = await desk.getByText(/saved to .*desk\.snapshot$/).textContent();
  expect(existsSync(/saved to (.*)$/.exec(saved!)![1]!)).toBe(true);
  expect(await desk.locator('.xterm-rows').textContent()).not.toContain('later-42');
  await desk.getByRole('button', { name: 'Continue' }).click();
  await desk.locator('.xterm-rows', { hasText: 'later-42' }).waitFor();

  // A token of exports sees no computer of the server.
  const { token } = await (await Tokens.open(process.env)).make(['disk'], true, 3600);
  const other = await (await openBrowser()).newPage();
  await other.goto(`${address.replace(/#.*/, '')}#token=${token}`);
  await other.getByRole('link', { name: 'Computers' }).click();
  await other.getByText('The computers in this tab.').waitFor();
  expect(await other.getByText('page-site/desk').count()).toBe(0);

  await desk.getByRole('button', { name: 'Reset' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Reset' }).click();
  await desk.getByText('page-site/desk starts anew.').waitFor();
  expect(errors).toEqual([]);
  await desk.getByRole('button', { name: 'End' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  // Its only computer has ended, so the site ends.
  expect((await site.ended).code).toBe(0);
}, 600_000);

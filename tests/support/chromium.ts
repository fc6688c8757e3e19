/**
 * Debian's Chromium without a window, driven by playwright-core, for tests of pages. Without the
 * program the tests fail: scripts/test-peers.sh installs it.
 */
import { chromium, type BrowserContext, type ConsoleMessage, type Page } from 'playwright-core';
import { afterAll } from 'vitest';
import { tempFolder } from './temp.js';

/** Switches for a browser in a test: no sandbox, as tests run as root; no traffic of its own. */
const switches = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Time limit of one action, in ms: a page shares two processors with other tests. */
const actionMs = 120_000;

const open = new Set<BrowserContext>();

/** A browser with a profile of its own, which is kept in `profile` if that is given. */
export async function openBrowser(profile = tempFolder()): Promise<BrowserContext> {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env['FARBUS_CHROMIUM'] ?? '/usr/bin/chromium',
    headless: true,
    args: switches,
    timeout: actionMs,
    // Its crash handler and caches belong into the test's folder.
    env: { ...process.env, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
  });
  context.setDefaultTimeout(actionMs);
  open.add(context);
  context.once('close', () => open.delete(context));
  return context;
}

/** Collects what a page says about errors: uncaught ones, and lines of its console. */
export function errorsOf(page: Page): string[] {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message: ConsoleMessage) => {
    if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`);
  });
  return errors;
}

/** Closes all browsers. Runs automatically after the file's tests. */
async function closeBrowsers(): Promise<void> {
  for (const context of open) await context.close();
}

// A benchmark that uses the tests' support has no test file.
if (process.env['VITEST']) afterAll(closeBrowsers);

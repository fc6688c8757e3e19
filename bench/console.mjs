/**
 * Use of the console page in a browser of chromium.mjs, as a person uses it: sections, a computer
 * in the tab, and its terminal.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Time limit of one wait, in ms. */
const limitMs = 120_000;

/** Waits until the expression is true in the page. A page that is being loaded has no answer. */
export async function until(page, expression, everyMs = 100) {
  const end = performance.now() + limitMs;
  while ((await page.evaluate(`Boolean(${expression})`).catch(() => false)) !== true) {
    if (performance.now() > end) throw new Error(`the page does not come to: ${expression}`);
    await sleep(everyMs);
  }
}

/** The first element with this text, as an expression. */
export function element(selector, text) {
  const [quoted, wanted] = [selector, text].map((one) => JSON.stringify(one));
  return `[...document.querySelectorAll(${quoted})].find((one) => one.textContent.trim() === ${wanted})`;
}

/** Waits for the button or link, and clicks on it. */
export async function click(page, selector, text) {
  const found = element(selector, text);
  await until(page, found);
  await page.evaluate(`${found}.click()`);
}

export async function go(page, section) {
  await page.evaluate(`location.hash = '#/${section}'`);
  await until(page, `document.querySelector('nav a[href="#/${section}"][aria-current]')`);
}

/** Opens the console page, and starts a computer whose writes go to the far disk. */
export async function bootHere(page, web) {
  await page.open(web.href);
  await until(page, "document.querySelector('h2.device-name')");
  await go(page, 'boot');
  const writes = "[...document.querySelectorAll('label')].find((one) => /^Writes go/.test(one.textContent))";
  await until(page, writes);
  await page.evaluate(`{
    const select = ${writes}.querySelector('select');
    select.value = 'far';
    select.dispatchEvent(new Event('change', { bubbles: true }));
  }`);
  await click(page, 'button', 'Start');
  await until(page, element('[role=status]', 'running'));
  await run(page, 'until blockdev --getsize64 /dev/sda >/dev/null 2>&1; do sleep 1; done', 'there');
}

/**
 * Types a command into the terminal of the computer in the tab, which must be shown, with an echo
 * of `word` behind it. `done` of the result waits for the word, and returns the text of the
 * terminal.
 */
export async function begin(page, command, word) {
  await until(page, "document.querySelector('.xterm-helper-textarea')");
  await page.evaluate("document.querySelector('.xterm-helper-textarea').focus()");
  // The quotes keep the typed line from looking like the answer.
  await page.type(`clear; ${command}; echo ${word.slice(0, 1)}""${word.slice(1)}`);
  const text = "document.querySelector('.xterm-rows')?.textContent ?? ''";
  return {
    isDone: () => page.evaluate(`(${text}).includes(${JSON.stringify(word)})`),
    done: async () => {
      await until(page, `(${text}).includes(${JSON.stringify(word)})`);
      return page.evaluate(text);
    },
  };
}

/** Runs a command in the terminal. Returns the text of the terminal. */
export async function run(page, command, word) {
  return (await begin(page, command, word)).done();
}

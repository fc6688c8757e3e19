/**
 * A browser for the benchmarks, driven by Chromium's own protocol. playwright-core watches the
 * network of a page, so each WebSocket message would be sent to it as well: that makes them some
 * ten times as expensive.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { WebSocket } from 'ws';

/**
 * Starts a browser with a page.
 * @param folder for its profile
 */
export async function browse(url, folder) {
  const options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--hide-scrollbars'];
  const child = spawn(
    process.env.FARBUS_CHROMIUM ?? '/usr/bin/chromium',
    [...options, '--remote-debugging-port=0', `--user-data-dir=${join(folder, 'profile')}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HOME: folder } },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  let text = '';
  const address = await new Promise((resolve, reject) => {
    child.stderr.on('data', (chunk) => {
      text += chunk;
      const match = /ws:\/\/\S+/.exec(text);
      if (match) resolve(match[0]);
    });
    child.once('exit', () => reject(new Error(`the browser ended: ${text}`)));
  });
  const socket = new WebSocket(address);
  await new Promise((resolve) => socket.once('open', resolve));
  const waiting = new Map();
  socket.on('message', (message) => {
    const { id, result, error } = JSON.parse(message);
    const [resolve, reject] = waiting.get(id) ?? [];
    if (error) reject?.(new Error(JSON.stringify(error)));
    else resolve?.(result);
  });
  let last = 0;
  const call = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, [resolve, reject]);
      socket.send(JSON.stringify({ id: last, method, params, sessionId }));
    });
  const { targetId } = await call('Target.createTarget', { url });
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  return {
    open: (address) => call('Page.navigate', { url: address }, sessionId),
    evaluate: async (expression) => {
      const options = { expression, awaitPromise: true, returnByValue: true };
      const { result, exceptionDetails } = await call('Runtime.evaluate', options, sessionId);
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    },
    pick: async (selector, file) => {
      const { root } = await call('DOM.getDocument', {}, sessionId);
      const { nodeId } = await call('DOM.querySelector', { nodeId: root.nodeId, selector }, sessionId);
      await call('DOM.setFileInputFiles', { files: [file], nodeId }, sessionId);
    },
    /** Types a line into the element with the focus, key by key. */
    type: async (line) => {
      const enter = { key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 13, text: '\r' };
      for (const key of [...Array.from(line, (text) => ({ key: text, text })), enter]) {
        await call('Input.dispatchKeyEvent', { type: 'keyDown', ...key }, sessionId);
        await call('Input.dispatchKeyEvent', { type: 'keyUp', ...key, text: undefined }, sessionId);
      }
    },
    /** A PNG of the page in a window of this size. */
    picture: async (width, height) => {
      const size = { width, height, deviceScaleFactor: 1, mobile: false };
      await call('Emulation.setDeviceMetricsOverride', size, sessionId);
      const { data } = await call('Page.captureScreenshot', { format: 'png' }, sessionId);
      return Buffer.from(data, 'base64');
    },
    close: async () => {
      child.kill();
      await ended;
    },
  };
}

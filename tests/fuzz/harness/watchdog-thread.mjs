// The thread of watchdog.ts. Plain JavaScript, because a worker thread loads it without vitest.
import { writeFileSync, writeSync } from 'node:fs';
import { Session } from 'node:inspector';
import { workerData } from 'node:worker_threads';

const { state, text, stuckCpuMs, stuckMs, maxRss, title, replayFile } = workerData;
// The layout of `state` is that of watchdog.ts: beats of the event loop, and the length of `text`.
const counters = new Int32Array(state);
const bytes = new Uint8Array(text);
const everyMs = 250;
/** How long the main thread has to say where it is, in ms. */
const stackMs = 3000;
const maxFrames = 12;
const maxPrinted = 4000;

/** Processor time of the whole process, in ms. */
function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The functions in which the main thread is, innermost first; none where it does not say. */
function stack() {
  return new Promise((resolve) => {
    setTimeout(() => resolve([]), stackMs);
    try {
      const session = new Session();
      session.connectToMainThread();
      session.on('Debugger.paused', ({ params }) =>
        resolve(
          params.callFrames.map(
            ({ functionName, url, location }) =>
              `  at ${functionName || '(anonymous)'} ${url}:${location.lineNumber + 1}`,
          ),
        ),
      );
      session.post('Debugger.enable');
      session.post('Debugger.pause');
    } catch {
      resolve([]);
    }
  });
}

async function end(what) {
  clearInterval(timer);
  const [when, ...inputs] = Buffer.from(bytes.slice(0, Atomics.load(counters, 1)))
    .toString()
    .split('\n');
  const lines = `${inputs.join('\n')}\n`;
  writeFileSync(replayFile, lines);
  const frames = (await stack()).slice(0, maxFrames);
  const shown = lines.length > maxPrinted ? [] : [lines];
  const said = [`\n${title}, ${when}: ${what}`, ...frames, `the inputs: FARBUS_FUZZ_REPLAY=${replayFile}`, ...shown];
  writeSync(2, `${said.join('\n')}\n`);
  process.kill(process.pid, 'SIGKILL');
}

let beats = -1;
let cpuThen = cpu();
let since = Date.now();
const timer = setInterval(() => {
  if (process.memoryUsage.rss() > maxRss) return void end(`it holds more than ${Math.round(maxRss / 2 ** 20)} MiB`);
  const now = Atomics.load(counters, 0);
  if (now !== beats) {
    beats = now;
    cpuThen = cpu();
    since = Date.now();
  } else if (cpu() - cpuThen > stuckCpuMs || Date.now() - since > stuckMs) {
    void end(`the event loop does not turn: it has stood for ${Date.now() - since} ms`);
  }
}, everyMs);

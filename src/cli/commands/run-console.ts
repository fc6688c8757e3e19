/** The console of `farbus run`: on the terminal, or in the background (`--detach`). */
import { FarbusError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { ClientComputer } from '../../computer/client.js';
import { describeEnd, isBadEnd } from '../../computer/guest-end.js';
import { startGuest, type Guest } from '../../app/computer/start.js';
import { noBootText, nothingToBoot } from './run-firmware.js';
import { guestOutput } from '../ui/guest-output.js';
import type { CliIo } from '../ui/io.js';
import { showScreen } from '../ui/screen-view.js';
import { hasUnicode } from '../ui/style.js';
import { attachTerminal } from '../ui/terminal.js';

export interface Session {
  readonly io: CliIo;
  readonly computer: ClientComputer;
  readonly guest: Guest;
  readonly memory: number;
  readonly snapshot: string | undefined;
  /** Continue from the snapshot even if a disk was written since. */
  readonly evenIfWritten: boolean;
  /** The engine, in words that complete "Debian starts". */
  readonly where: string;
  readonly log: Logger;
}

/** Longest time of a timer of Node, in ms. */
const longestTimer = 2 ** 31 - 1;
/** Interval of looking for that text, in ms. */
const lookMs = 500;

/** Starts the guest. Resolves when it has booted, as far as that can be seen. */
async function start({ computer, guest, snapshot, evenIfWritten, memory, log }: Session): Promise<void> {
  const result = await startGuest(computer, guest, snapshot, memory, { evenIfWritten, once: true, log });
  // A snapshot was taken after the prompt was printed: ask for another one.
  if (result.from === 'snapshot') void computer.console.send('\n');
  if (result.saved !== undefined) log.log('info', `saved to ${snapshot!}`);
}

/** Rejects if the firmware finds nothing to boot. `stop` ends looking. */
function nothingBoots({ computer, guest }: Session): { nothing: Promise<never>; stop: () => void } {
  let watch: ReturnType<typeof setInterval> | undefined;
  const nothing = new Promise<never>((_, reject) => {
    if (guest.image !== undefined) return;
    const { screen } = computer;
    if (!screen) {
      const told = computer.console.waitFor(noBootText, longestTimer);
      // The wait fails when the computer ends.
      return void told.then(() => reject(nothingToBoot())).catch(() => undefined);
    }
    watch = setInterval(() => {
      if (screen.text().some((line) => noBootText.test(line))) reject(nothingToBoot());
    }, lookMs);
  });
  return { nothing, stop: () => clearInterval(watch) };
}

/**
 * Connects the terminal to the guest until it ends or the user leaves.
 * @param wantsScreen True if the terminal shows the screen, if the computer has one, instead of its
 * console.
 */
export async function interactive(session: Session, wantsScreen: boolean): Promise<number> {
  const { io, computer, guest, where, log } = session;
  const screen = wantsScreen ? computer.screen : undefined;
  const print = guestOutput(io, computer);
  if (!screen) computer.onSerial((byte) => print(Uint8Array.of(byte)));
  const stdout = io.stdout as NodeJS.WriteStream;
  const hide = screen ? showScreen(() => screen.look(), stdout, hasUnicode(io.env)) : () => undefined;
  const terminal = attachTerminal(io, (bytes) => {
    if (screen) return screen.typeBytes(bytes);
    return computer.sendSerial(bytes);
  });
  // In raw mode already: from here on Ctrl-C is the guest's.
  log.log('info', `${guest.version} starts ${where}; Ctrl-] leaves`);
  // If the terminal shows the screen, the user sees the firmware's own message.
  const watch = screen ? undefined : nothingBoots(session);
  try {
    const unread = io.stdoutFailed?.then(() => 'left' as const) ?? new Promise<never>(() => undefined);
    const left = terminal.left.then(() => 'left' as const);
    const over = Promise.race([left, computer.ended, unread, ...(watch ? [watch.nothing] : [])]);
    await Promise.race([start(session), over]);
    const why = await over;
    hide();
    if (why !== 'left' && isBadEnd(why)) throw new FarbusError(describeEnd(why, computer.endDetail));
    if (why !== 'left') log.log('info', describeEnd(why, computer.endDetail));
    else io.stderr.write('\n');
    return 0;
  } finally {
    watch?.stop();
    hide();
    terminal.stop();
  }
}

/**
 * Runs the guest without a terminal until it ends. Its console is that of `farbus console`.
 * @param booted Called when the guest has booted, as far as that can be seen.
 */
export async function background(session: Session, booted: () => Promise<void>): Promise<number> {
  const { computer, guest, where, log } = session;
  log.log('info', `${guest.version} starts ${where}`);
  const watch = nothingBoots(session);
  try {
    const over = Promise.race([watch.nothing, computer.ended]);
    const early = over.then((why) => {
      throw new FarbusError(`${describeEnd(why, computer.endDetail)} before it was ready`);
    });
    await Promise.race([start(session), early]);
    await booted();
    const why = await over;
    if (isBadEnd(why)) throw new FarbusError(describeEnd(why, computer.endDetail));
    log.log('info', describeEnd(why, computer.endDetail));
    return 0;
  } finally {
    watch.stop();
  }
}

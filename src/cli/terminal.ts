/** The user's terminal as the console of a guest: raw, every key goes to the guest, Ctrl-] leaves. */
import type { CliIo } from './io.js';

/** Ctrl-], as telnet and virsh console have it. */
const leaveKey = 0x1d;

/**
 * Connects stdin to a guest until Ctrl-] (on a terminal) or, in a pipe, never by itself: its end is not the guest's.
 * @returns stops the connection and sets the terminal back; `left` resolves when the user leaves.
 */
export function attachTerminal(
  io: CliIo,
  send: (bytes: Uint8Array) => unknown,
): { stop: () => void; left: Promise<void> } {
  const { stdin } = io;
  const raw = stdin.isTTY === true;
  let leave: () => void = () => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const onData = (chunk: Buffer) => {
    const at = raw ? chunk.indexOf(leaveKey) : -1;
    const taken = send(at < 0 ? chunk : chunk.subarray(0, at));
    if (at >= 0) leave();
    if (!raw && taken instanceof Promise) void waitFor(taken);
  };
  let stopped = false;
  /** What comes by a pipe comes faster than a guest reads. */
  const waitFor = async (taken: Promise<unknown>): Promise<void> => {
    stdin.pause();
    await taken;
    if (!stopped) stdin.resume();
  };
  // A terminal that is closed can be neither read nor set back (EIO).
  stdin.on('error', leave);
  if (raw) stdin.setRawMode(true);
  stdin.on('data', onData);
  stdin.resume();
  return {
    left,
    stop: () => {
      stopped = true;
      stdin.off('data', onData);
      stdin.pause();
      if (raw) stdin.setRawMode(false);
    },
  };
}
